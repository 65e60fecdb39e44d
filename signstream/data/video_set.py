"""A data set in CSL-Daily's layout out of videos: what is missing is made, then the tables are written.

    make_set(options_of(args)) -> exit status, 1 if a video gives no clip

    OUT/frames_512x512/<name>.npy    a clip as soon as it is made        OUT/video_journal.jsonl    what became of each
    OUT/annotations.json, OUT/split_files.json                           last, of what the command names

Whether hands are seen often enough is judged of what the journal has, so another --min-hands looks at a video again
only if it was left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from signstream.config.common import FASTEST, SLOWEST
from signstream.data.conversion import Read, csl_daily_rows, note_of, table, without_point
from signstream.data.datasets import Clip, usable_names
from signstream.data.estimator import check_model, estimator_library, open_estimator
from signstream.data.video_clip import How, Made, parse_box
from signstream.data.video_journal import Entry, Journal, Origin, open_journal, origin_of
from signstream.data.video_list import SPLITS, Video, find_videos
from signstream.data.video_workers import Eyes, Job, work
from signstream.errors import UserError, refusal, shown
from signstream.io.pose_files import npy_shape
from signstream.io.video_files import promised_frames, video_library
from signstream.io.whole import remove_parts, write_together, write_whole
from signstream.skeleton import FEET, LEFT_HAND, NUM_JOINTS

CLIPS = "frames_512x512"
UNFINISHED, ABSENT = "unfinished", "missing file"
PASSING = (UNFINISHED, ABSENT, "cannot be read", "the process")  # reasons that may be gone the next time
NO_POINT = "BODY left_small_toe, right_small_toe"  # in Holistic


class Options(NamedTuple):
    videos: list[Video]
    out: Path
    eyes: Eyes
    how: How = How()
    workers: int = 1
    min_hands: float = 5.0  # percent of the frames
    shares: tuple[float, ...] = (8.0, 1.0, 1.0)  # of SPLITS
    seed: int = 0


def options_of(args: argparse.Namespace) -> Options:
    """The door's arguments, checked, and the packages that they need."""
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: at least one process is needed")
    if args.fps is not None and not SLOWEST <= args.fps <= FASTEST:
        raise UserError(f"--fps {args.fps:g}: {SLOWEST:g} to {FASTEST:g} are possible")
    if not 0 <= args.min_hands <= 100:
        raise UserError(f"--min-hands {args.min_hands:g}: it is a share of the frames, 0 to 100 percent")
    how = How(args.fps, parse_box(args.crop) if args.crop else None)
    shares = _parse_shares(args.splits)
    video_library()
    eyes = holistic_eyes(args.complexity, args.models, refine_face=args.refine_face)
    videos = find_videos(args.inputs, args.list)
    return Options(videos, args.out, eyes, how, args.workers, args.min_hands, shares, args.seed)


def holistic_eyes(complexity: int, models: Path | None, *, refine_face: bool) -> Eyes:
    """MediaPipe Holistic, under a name that says all that its result depends on."""
    library = estimator_library()
    model = check_model(library, complexity, models)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()[:12]
    name = f"mediapipe {library.version} Holistic, complexity {complexity} ({digest})" + ", refined face" * refine_face
    return Eyes(name, partial(open_estimator, complexity=complexity, models=models, refine_face=refine_face))


def _parse_shares(text: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(share) for share in text.split(":"))
    except ValueError:
        shares = ()
    if len(shares) != len(SPLITS) or not all(0 <= share < 1e9 for share in shares) or not sum(shares):
        raise UserError(f"--splits {shown(text)}: the shares of {', '.join(SPLITS)} are expected, as in 8:1:1")
    return shares


def make_set(options: Options) -> int:
    names, refused = usable_names([video.name for video in options.videos])
    by_name = {video.name: video for video in options.videos}
    videos = {name: by_name[name] for name in names}
    with open_journal(options.out) as journal:
        (options.out / CLIPS).mkdir(exist_ok=True)
        remove_parts(options.out / CLIPS)
        entries, before = _make_clips(options, videos, journal)
        faults = {name: _fault(entry, options.min_hands) for name, entry in entries.items()}
        clips = [videos[name] for name in sorted(entries) if not faults[name]]
        splits = draw_splits(clips, options.shares, options.seed)
        reads = [Read("", name, faults[name]) for name in sorted(entries) if faults[name]]
        reads += [Read(splits[clip.name], clip.name, "", entries[clip.name].frames) for clip in clips]
        reads += [Read("", name, reason) for name, reason in refused]
        for read in (left_out := [read for read in reads if read.reason]):
            print(f"left out: {read.name}: {read.reason}", file=sys.stderr)
        _write_tables(options.out, [_annotated(video, entries[video.name]) for video in clips], splits)
        if not clips:
            raise UserError("no video gives a clip: there is no data set")
        print(table(reads, SPLITS, [(len(clips), without_point(NO_POINT))]))
        for count, what in ((before, "of all these were finished before"), _others(options, journal)):
            if count:
                print(f"{count:>8}  {what}")
    print(f"wrote {options.out}", flush=True)
    return 1 if left_out else 0


class Outcomes(NamedTuple):
    entries: dict[str, Entry]  # by the clip's name
    before: int  # of them were finished before


def _make_clips(options: Options, videos: Mapping[str, Video], journal: Journal) -> Outcomes:
    """Every video's outcome, those that are not in the journal yet made and written now."""
    settings = {
        "estimator": options.eyes.name,
        "fps": options.how.fps,
        "crop": options.how.crop and [*options.how.crop],
    }
    entries: dict[str, Entry] = {}
    jobs: dict[Job, Origin] = {}
    for name, video in videos.items():
        try:
            origin = origin_of(video.path)
        except OSError as error:
            reason = ABSENT if isinstance(error, FileNotFoundError) else f"cannot be read: {refusal(error)}"
            entries[name] = Entry(name, Origin(str(video.path), 0, 0), settings, reason)
            continue
        entry = journal.finished(name, origin, settings)
        if entry is not None and _is_done(options.out, entry, options.min_hands):
            entries[name] = entry
        else:
            jobs[Job(name, video.path)] = origin
    before = sum(not entry.reason.startswith(PASSING) for entry in entries.values())
    frames = sum(promised_frames(job.path) for job in jobs)
    with tqdm(total=frames, desc="video", unit="frame", disable=None) as bar:
        done = work(list(jobs), options.eyes, options.how, workers=options.workers, tick=bar.update)
        for job, made in done:
            entry = _entry(job.name, jobs[job], made, settings=settings)
            _keep(options, journal, entry, poses=made.poses)
            entries[job.name] = entry
    return Outcomes(entries, before)


def _entry(name: str, origin: Origin, made: Made, *, settings: Mapping[str, Any]) -> Entry:
    if made.poses is None:
        return Entry(name, origin, settings, made.reason)
    body, hands = _seen(made.poses[:, :FEET]), _seen(made.poses[:, LEFT_HAND:])
    return Entry(name, origin, settings, "", len(made.poses), made.fps, made.size, body, hands)


def _seen(poses: np.ndarray) -> float:
    """In how many percent of the frames one of these joints is there."""
    return round(100 * float((poses[..., 2] > 0).any(1).mean()), 2)


def _fault(entry: Entry, min_hands: float) -> str:
    """Why there is no clip; "": there is one."""
    if entry.reason:
        return entry.reason
    if not entry.body:
        return f"nobody there: no body in any of {entry.frames} frames"
    if entry.hands < min_hands:
        return f"hands not seen: in {entry.hands:g} % of {entry.frames} frames (--min-hands {min_hands:g})"
    return ""


def _is_done(out: Path, entry: Entry, min_hands: float) -> bool:
    if fault := _fault(entry, min_hands):
        return not fault.startswith(PASSING)
    try:
        return npy_shape(out / CLIPS / f"{entry.name}.npy") == (entry.frames, NUM_JOINTS + 1, 3)
    except UserError:
        return False


def _keep(options: Options, journal: Journal, entry: Entry, *, poses: np.ndarray | None) -> None:
    """The clip is whole before the journal says so, and an older one is forgotten before it is replaced."""
    path = options.out / CLIPS / f"{entry.name}.npy"
    if entry.name in journal.entries:
        journal.add(Entry(entry.name, entry.origin, entry.settings, UNFINISHED))
    if poses is None or _fault(entry, options.min_hands):
        path.unlink(missing_ok=True)
    else:
        rows = csl_daily_rows(Clip(entry.name, poses, size=entry.size))
        write_whole(path, lambda file: np.save(file, rows, allow_pickle=False))
    journal.add(entry)


def _annotated(video: Video, entry: Entry) -> Clip:
    """All of the clip but its numbers."""
    frames = np.empty((entry.frames, 0, 3), np.float32)
    return Clip(video.name, frames, entry.fps, entry.size, text=video.text, gloss=video.gloss, signer=video.signer)


def draw_splits(videos: Sequence[Video], shares: Sequence[float], seed: int) -> dict[str, str]:
    """{name: split}: what the list says; else by a number made of the name and the seed, so that neither the order nor
    other videos matter, save that a split which would stay empty gets the video that is nearest to it."""
    ends = np.cumsum(shares) / sum(shares)
    middles = dict(zip(SPLITS, ends - np.array(shares) / sum(shares) / 2))
    places = {video.name: _place(f"{seed}/{video.name}") for video in videos if not video.split}
    splits = {video.name: video.split or SPLITS[int((places[video.name] >= ends).sum())] for video in videos}
    for split, share in zip(SPLITS, shares):
        held = Counter(splits.values())
        if share and not held[split]:
            spare = [name for name in places if held[splits[name]] > 1]
            if spare:
                splits[min(spare, key=lambda name: abs(places[name] - middles[split]))] = split
    return splits


def _place(text: str) -> float:
    """0 to 1."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / (1 << 48)


def _write_tables(out: Path, clips: Sequence[Clip], splits: Mapping[str, str]) -> None:
    notes = {clip.name: note_of(clip) for clip in clips}
    names = {split: [clip.name for clip in clips if splits[clip.name] == split] for split in SPLITS}
    tables = {out / "annotations.json": notes, out / "split_files.json": names}
    write_together({path: (json.dumps(content, indent=0) + "\n").encode() for path, content in tables.items()})


def _others(options: Options, journal: Journal) -> tuple[int, str]:
    named = {video.name for video in options.videos}
    others = [name for name, entry in journal.entries.items() if not _fault(entry, options.min_hands)]
    return len({*others} - named), "made by earlier commands and not named by this one: left there, in no split"
