"""A data set through the front end, once: the pose cache that everything reads.

    cache = open_cache(config.data)      # builds it if it isn't there or no longer fits -> io.pose_cache.PoseCache

The cache lies in <data.cache>/<root's name>-<key>/, the key being the root's path and the preprocessing.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from signstream.config import Poses
from signstream.data.datasets import Clip, PoseData, load_checked, open_data, skeleton_of, splits_of, usable_names
from signstream.data.frontend import as_raw, prepare
from signstream.errors import UserError
from signstream.io.cache_index import Skipped, reason_of
from signstream.io.pose_cache import Entry, Name, PoseCache, Source, count_reasons
from signstream.skeleton import Skeleton

FORMAT = 1  # raise it when the front end's arithmetic changes


def open_cache(data: Poses, quiet: bool = False) -> PoseCache:
    """The cache of `data.root` under this preprocessing, built by as many processes as this one has threads
    (train.threads) where it has to be."""
    source = source_of(open_data(data), skeleton_of(data))
    key = hashlib.sha256(repr((str(source.root), _preprocessing(data, source.skeleton))).encode()).hexdigest()[:12]
    cache = PoseCache.open(Path(data.cache) / f"{source.root.name}-{key}", source, torch.get_num_threads(), quiet=quiet)
    if not cache.clips:
        raise UserError(_nothing_left(source.root, data.layout, cache.skipped))
    return cache


def source_of(data_set: PoseData, skeleton: Skeleton) -> Source:
    """What a cache is built from: the data set's clips, each to go through the front end."""
    names: list[Name] = []
    refused: list[Skipped] = []
    for split, listed in splits_of(data_set).items():
        usable, faulty = usable_names(listed)
        names += [Name(split, name) for name in usable]
        refused += [Skipped(split, name, reason) for name, reason in faulty]
    return Source(
        root=data_set.root,
        skeleton=skeleton,
        names=names,
        refused=refused,
        files=list(_files(data_set, names)),
        frames=data_set.frames,
        prepare=partial(prepare_clip, data_set=data_set, skeleton=skeleton),
    )


def prepare_clip(split: str, name: str, *, data_set: PoseData, skeleton: Skeleton) -> Entry:
    """One clip checked and through the front end; whatever is wrong with it is the reason why it is left out."""
    try:
        clip = load_checked(data_set, split, name)
        note = _note(clip, data_set.data)
    except ValueError as error:
        return Entry(None, {}, reason_of(error))
    except Exception as error:
        # A user's own reader may raise anything; the clip is counted and listed, the rest goes on.
        return Entry(None, {}, f"{type(error).__name__}: {reason_of(error)}")
    poses = as_raw(clip.poses)
    note["poses_crc"] = zlib.crc32(poses.numpy().data, zlib.crc32(repr(clip.fps).encode()))
    return Entry(prepare(poses, skeleton, data_set.data, fps=clip.fps).rows().numpy(), note)


def _files(data_set: PoseData, names: list[Name]) -> Iterator[Path]:
    yield from data_set.sources()
    for split, name in names:
        yield from data_set.files(split, name)


def _preprocessing(data: Poses, skeleton: Skeleton) -> tuple[object, ...]:
    """All that the cached numbers depend on beside the files."""
    options = (
        data.layout,
        data.split_file,
        data.check_num_frames,
        data.fps,
        data.max_frames,
        data.min_score,
        data.max_gap,
        data.smooth,
        data.unit_window,
    )
    return FORMAT, options, skeleton.num_joints, skeleton.origin, skeleton.unit_pairs, skeleton.spare_units


def _note(clip: Clip, data: Poses) -> dict[str, Any]:
    """What the index holds of a clip, as JSON can hold it whatever number types a user's reader gave."""
    width, height = clip.size or (0, 0)
    return {
        "num_frames": len(clip.poses),
        "fps": clip.fps or data.fps,
        "fps_known": clip.fps is not None,
        "size": (float(width), float(height)) if clip.size else None,
        "text": str(clip.text),
        "gloss": str(clip.gloss),
        "signer": str(clip.signer),
        "segments": tuple((int(first), int(last), str(gloss)) for first, last, gloss in clip.segments),
    }


def _nothing_left(root: Path, layout: str, skipped: list[Skipped]) -> str:
    why = "its splits name none"
    if skipped:
        first = f"{skipped[0].name!r}, {skipped[0].reason}"
        why = f"{len(skipped)} were left out ({count_reasons(skipped)}), the first: {first}"
    return f"data.root {root} has no usable clip in the {layout} layout: {why}"
