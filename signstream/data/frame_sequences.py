"""Pictures as sequences: a step is a frame of the clip, every `data.frames.interval`-th; beside it, if it is asked for,
the heat map of the signer's face and hands.

Workers read files; all else is done on the device, clip by clip (frames.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from signstream.config.recognition import RecognitionData
from signstream.data.datasets import FrameFiles, PoseData, load_checked, splits_of, usable_names
from signstream.data.frames import choose_frames, frame_streams
from signstream.data.sequences import Example, Padded, Sequences, words_of
from signstream.errors import UserError, shown
from signstream.io.batch import StreamBatch
from signstream.io.cache_index import Skipped, reason_of
from signstream.io.dataloader_utils import step_seed
from signstream.io.frame_files import frame_size, read_frames


class FrameSequences(Sequences):
    """Of a data set that has pictures, all of one size."""

    def __init__(self, data_set: PoseData, data: RecognitionData) -> None:
        self.data_set, self.data = data_set, data
        self.files: list[FrameFiles] = []
        self.size: tuple[int, int] | None = None  # of every picture
        examples: list[Example] = []
        skipped: list[Skipped] = []
        splits = splits_of(data_set)
        for split, listed in splits.items():
            usable, faulty = usable_names(listed)
            skipped += [Skipped(split, name, reason) for name, reason in faulty]
            for name in usable:
                try:
                    files = self._checked(split, name)
                except ValueError as error:
                    skipped.append(Skipped(split, name, reason_of(error)))
                    continue
                steps = len(choose_frames(len(files.paths), data.frames))
                examples.append(Example(name, split, words_of(files.gloss, data.clean), files.signer, steps))
                self.files.append(files)
        if not examples:
            first = f"; the first: {skipped[0].name}, {skipped[0].reason}" if skipped else ""
            raise UserError(f"data.root {data_set.root} has no clip with pictures in the {data.layout} layout{first}")
        super().__init__(examples, list(splits), skipped)

    def _checked(self, split: str, name: str) -> FrameFiles:
        """A clip's pictures, as long as its keypoints where these are needed, or a ValueError that says why not."""
        files = self.data_set.frame_files(split, name)
        paths = files.paths[: self.data.max_frames]
        size = frame_size(paths[0])
        self.size = self.size or (size.width, size.height)
        if (size.width, size.height) != self.size:
            across, down = self.size
            raise UserError(f"frames of {size.width} x {size.height}: those of the other clips are {across} x {down}")
        if self.data.frames.heat:
            joints = len(load_checked(self.data_set, split, name).poses)
            if joints != len(files.paths):
                raise UserError(f"keypoints of {joints} frames: there are {len(files.paths)}")
        return files._replace(paths=paths)

    def content(self, split: str) -> str:
        """Of how many pictures there are, and how large: nobody reads them all for it."""
        counts = [len(self.files[clip].paths) for clip in self.splits[split]]
        return hashlib.sha256(json.dumps([self.size, counts]).encode()).hexdigest()

    def read(self, clips: Sequence[int], seed: int, train: bool = False) -> StreamBatch:
        """Only the pictures that are seen: every `interval`-th, and in training at a speed that is drawn."""
        across, down = self.size or (1, 1)
        frames, joints = (
            [np.empty((0, down, across, 3), np.uint8)],
            [np.empty((0, self.data.num_joints, 3), np.float32)],
        )
        for number, clip in enumerate(clips):
            paths, generator = self.files[clip].paths, _generator(seed, 3, number) if train else None
            chosen = choose_frames(len(paths), self.data.frames, least=self.least[clip], generator=generator).tolist()
            try:
                frames.append(self._pictures([paths[i] for i in chosen]))
                if self.data.frames.heat:
                    joints.append(self._joints(clip)[chosen])
            except (UserError, OSError) as error:
                name = shown(self.examples[clip].name)
                raise UserError(f"the clip {name} can no longer be read: {error}") from None
        streams = {"frames": torch.from_numpy(np.concatenate(frames))}
        if self.data.frames.heat:
            streams["keypoints"] = torch.from_numpy(np.concatenate(joints))
        return StreamBatch(streams, tuple(map(len, frames[1:])), tuple(clips), seed)

    def _pictures(self, paths: list[Path]) -> np.ndarray:
        across, down = self.size or (1, 1)
        frames = read_frames(paths)
        if frames.shape[1:3] != (down, across):
            raise UserError(f"frames of another size than the other clips' {across} x {down}")
        return frames

    def _joints(self, clip: int) -> np.ndarray:
        """[T, J, 3] in pixels of a picture of FrameFiles.size."""
        example = self.examples[clip]
        return load_checked(self.data_set, example.split, example.name).poses.astype(np.float32)

    def padded(self, raw: StreamBatch, *, train: bool) -> Padded:
        """frames [B, S, 3, h, w], and heat [B, S, 1, h, w] where there is any."""
        options = self.data.frames
        streams = {name: rows.split(list(raw.lengths)) for name, rows in raw.streams.items()}
        made = [
            frame_streams(
                streams["frames"][number],
                options,
                keypoints=streams["keypoints"][number] if options.heat else None,
                keypoint_size=self.files[clip].size,
                generator=_generator(raw.seed, 4, number) if train else None,
            )
            for number, clip in enumerate(raw.index)
        ]
        frames = [each.frames for each in made]
        heat = [each.heat for each in made if each.heat is not None]
        return Padded(self._together(raw, frames, heat), raw.lengths)

    def _together(
        self, raw: StreamBatch, frames: list[torch.Tensor], heat: list[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        size = self.data.frames.size
        kinds = {"frames": (frames, 3), **({"heat": (heat, 1)} if self.data.frames.heat else {})}
        empty = torch.zeros(0, 0, 1, size, size, device=raw.streams["frames"].device)
        return {
            name: pad_sequence(clips, batch_first=True) if clips else empty.expand(-1, -1, channels, -1, -1)
            for name, (clips, channels) in kinds.items()
        }

    def about(self) -> str:
        across, down = self.size or (0, 0)
        return f"frames of {across} x {down}"


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(step_seed(*numbers))
