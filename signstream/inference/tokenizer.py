"""Poses to tokens and back, from a checkpoint alone.

    tokenizer = signstream.load("checkpoints/quickstart")      # a checkpoint, a run's folder, or an experiment's: its newest run
    tokens = tokenizer.encode(poses, fps=25)                   # [T, 133, 3] (x px, y px, score) -> TokenSequence
    poses = tokenizer.decode(tokens)                           # -> [T', 133, 3] (x, y in unit lengths from the nose, 1 where a part was sent)
    stream = tokenizer.stream(fps=25)
    for frame in camera:
        for chunk in stream.push(frame): ...                   # the same codes, as soon as they are known

A clip's own frame rate is brought to the config's, so T' frames are at `tokens.fps`. Which codes are sent is decided chunk by chunk: first the budget
(models/rvq/budget.py), then holding: a part goes on saying what it last said while that draws the chunk about as well as its new codes would.
Both are held against the chunk itself, so a slow movement is noticed once it has added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from signstream import registry
from signstream.config import Config, Export, from_dict
from signstream.data.collate import ChunkBatch, make_chunks, pack
from signstream.data.datasets import skeleton_of
from signstream.data.frontend import FrontEnd, Prepared, prepare
from signstream.errors import UserError
from signstream.models.rvq.budget import Budget, levels_sent, worth
from signstream.space import SigningSpace, assemble, join_chunks, to_pixels
from signstream.tasks.rvq.losses import Losses, valid_chunks
from signstream.tasks.rvq.views import Target, Views, build_model
from signstream.tokens.format import TokenSequence
from signstream.tokens.vocabulary import Vocabulary
from signstream.training import checkpoint
from signstream.training.distributed import pick_device


@dataclass(frozen=True)
class Said:
    """What the parts last said: their codes, and what those decode to in signing space."""

    codes: list[list[int]]  # P x Q; -1 where nothing was said
    views: list[Tensor]  # P x [L, J, 2]
    held: tuple[bool, ...]  # P: whether a part said it before


@dataclass(frozen=True)
class Chunk:
    """A finished chunk of a stream."""

    t: int
    codes: Tensor  # [P, Q]
    held: tuple[bool, ...]  # P: whether the part says again what it said before


class Tokenizer:
    """`codes_per_chunk` (on average, or "full") and `hold` (the threshold of holding, 0: never) are the config's unless set."""

    def __init__(self, state: dict, device: str | torch.device = "cpu", export: Export | None = None) -> None:
        self.config: Config = from_dict(state["config"])
        registry.check(self.config, ("arch",))
        wanted = export or self.config.export
        self.codes_per_chunk, self.hold = wanted.codes_per_chunk, wanted.rle_threshold if wanted.enable_rle else 0.0
        if not bool(state["model"]["quantizer.initialised"]):
            raise UserError(
                f"the checkpoint is of step {state['step']}, before the codebooks begin (train.warmup_steps): train on"
            )
        self.device, self.skeleton = torch.device(device), skeleton_of(self.config.data)
        self.model = build_model(self.config, self.skeleton)
        self.model.load_state_dict(state["model"])
        self.model.to(self.device).eval().requires_grad_(False)
        self.views = Views(self.skeleton, SigningSpace.from_state(state["space"]))
        self.budget = Budget.from_state(state["budget"]) if state["budget"] else None
        self.losses = Losses(self.config, [part.name for part in self.skeleton.parts])
        self.parts = tuple(part.tag for part in self.skeleton.parts)
        self.levels = tuple(self.model.quantizer.levels.tolist())
        constants = {f"space.{name}": state["space"][name] for name in ("shift", "scale", "attach")}
        self.digest = checkpoint.digest({**state["model"], **constants})

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Tokenizer:
        return cls(checkpoint.load(checkpoint.best_of(path)), pick_device(device, 0, 1))

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.parts, self.levels, self.config.model.rvq.codebook_size)

    # -- poses to codes

    def encode(self, poses: np.ndarray | Tensor, fps: float | None = None, name: str = "clip") -> TokenSequence:
        """poses [T, J, 3]; `fps` None: the config's."""
        ready = prepare(self._checked(poses), self.skeleton, self.config.data, fps)
        return self.encode_prepared([torch.cat((ready.place[:, None], ready.frames), 1).numpy()], [name])[0]

    def encode_prepared(self, clips: Sequence[np.ndarray], names: Sequence[str]) -> list[TokenSequence]:
        """Clips [T', 1 + J, 3] as the pose cache holds them, in one pass."""
        batch = make_chunks(
            pack(clips, range(len(clips)), num_joints=self.skeleton.num_joints).to(self.device),
            self.skeleton,
            self.config.data,
        )
        codes, views, targets = self._codes(batch)
        fresh = torch.stack(
            [distance(view, target) for view, target in zip(views, targets)], 1
        ).tolist()  # [N, P] how far off the new codes are
        stale = [[0.0] * len(self.parts)]  # and those of the chunk before
        if len(batch) > 1 and self.hold > 0:
            stale += torch.stack(
                [distance(v[:-1], Target(t.xy[1:], t.weight[1:])) for v, t in zip(views, targets)], 1
            ).tolist()
        out, told, clip_of = [], codes.tolist(), torch.where(batch.frames > 0, batch.clip, -1).tolist()
        for i, (clip, name) in enumerate(zip(clips, names)):
            said, spoken = None, []
            for row in [row for row, owner in enumerate(clip_of) if owner == i]:
                asked = [Target(t.xy[row], t.weight[row]) for t in targets]
                said = self._speak(
                    said, told[row], [v[row] for v in views], asked, fresh[row], stale[row] if self.hold > 0 else None
                )
                spoken.append(said.codes)
            spoken = torch.tensor(spoken, dtype=torch.int64).reshape(-1, *codes.shape[1:])
            out.append(self.sequence(spoken, len(clip), name))
        return out

    def sequence(self, codes: Tensor, frames: int, name: str) -> TokenSequence:
        data = self.config.data
        return TokenSequence(
            name,
            data.fps,
            data.chunk_len,
            frames,
            codes,
            self.parts,
            self.levels,
            self.config.model.rvq.codebook_size,
            self.digest,
        )

    def stream(self, fps: float | None = None) -> Stream:
        return Stream(self, fps)

    def _checked(self, poses: np.ndarray | Tensor) -> Tensor:
        poses = poses.float() if isinstance(poses, Tensor) else torch.from_numpy(np.array(poses, np.float32))
        if poses.dim() != 3 or poses.shape[1:] != (self.skeleton.num_joints, 3):
            raise UserError(
                f"poses are {list(poses.shape)}: [T, {self.skeleton.num_joints}, 3] is expected, x and y in pixels and the score"
            )
        return poses

    @torch.no_grad()
    def _codes(self, batch: ChunkBatch) -> tuple[Tensor, list[Tensor], list[Target]]:
        """The codes [N, P, Q] that the budget sends, what they decode to (P x [N, L, J, 2]; nothing where no code is sent) and what they should."""
        threads = torch.get_num_threads()
        torch.set_num_threads(
            1
        )  # with more, how a product is shared out depends on its size, and with that its last bits
        try:
            return self._choose(batch)
        finally:
            torch.set_num_threads(threads)

    def _choose(self, batch: ChunkBatch) -> tuple[Tensor, list[Tensor], list[Target]]:
        inputs, targets = self.views.of(batch)
        count, budgeted, visible = len(batch), self.codes_per_chunk != "full", valid_chunks(targets).T
        codes = torch.where(visible[..., None], self.model.tokenise(inputs), -1)
        if budgeted and self.budget is None:
            raise UserError(
                "the checkpoint has no budget, since its run had no validation split: set export.codes_per_chunk=full"
            )
        if not count or (not budgeted and self.hold <= 0):
            return codes, [target.xy for target in targets], targets
        if not budgeted:
            return codes, self.model.detokenise(codes), targets
        prefixes = self.model.decode_prefixes(codes)
        value = worth(self.losses.level_costs(prefixes, targets))
        sent = levels_sent(
            value, self.model.quantizer.levels, visible, self.budget.price(self.codes_per_chunk)
        )  # [N, P]
        codes = torch.where(torch.arange(codes.shape[-1], device=codes.device) < sent[..., None], codes, -1)
        chunk = torch.arange(count, device=codes.device)
        return codes, [view[(sent[:, p] - 1).clamp(min=0), chunk] for p, view in enumerate(prefixes)], targets

    def _speak(
        self,
        said: Said | None,
        codes: list[list[int]],
        views: list[Tensor],
        asked: list[Target],
        fresh: list[float],
        stale: list[float] | None = None,
    ) -> Said:
        """What a chunk's parts say: codes P x Q, what they decode to P x [L, J, 2], what they should; fresh: how far off that is, a part;
        stale, if known: how far off the codes of the chunk before are."""
        if said is None or self.hold <= 0:
            return Said(codes, views, (False,) * len(codes))
        limit, held = self.hold * self.config.data.normalize.bbox_range, []
        for p, (old, new) in enumerate(zip(said.codes, codes)):
            if old[0] < 0 or new[0] < 0:
                held.append(False)
                continue
            known = stale is not None and not said.held[p]
            old_error = (
                stale[p]
                if known
                else float(distance(said.views[p][None], Target(asked[p].xy[None], asked[p].weight[None])))
            )
            held.append(old_error - fresh[p] < limit)
        kept = [
            [old if keep else new for keep, old, new in zip(held, *both)]
            for both in ((said.codes, codes), (said.views, views))
        ]
        return Said(*kept, tuple(held))

    # -- codes to poses

    def decode(self, tokens: TokenSequence, place: Tensor | Sequence[float] | None = None) -> Tensor:
        """[T', J, 3] in unit lengths from the nose, or in pixels with a place: (x, y, pixels a unit length), one or one a frame [T', 3].
        The third number is 1 where a part that was sent tells the joint."""
        if tokens.tokenizer != self.digest:
            raise UserError(
                f"{tokens.name}: its tokens are of the tokenizer {tokens.tokenizer}, this one is {self.digest}: "
                "load the checkpoint that made them"
            )
        poses = self.decode_codes(tokens.codes)[: tokens.num_frames]
        if place is None:
            return poses
        place = torch.as_tensor(place, dtype=torch.float32).reshape(-1, 3).expand(len(poses), 3)
        return torch.cat((to_pixels(poses[..., :2], place), poses[..., 2:]), -1)

    @torch.no_grad()
    def decode_codes(self, codes: Tensor) -> Tensor:
        """[N, P, Q] -> [N * L, J, 3] in unit lengths."""
        sent = codes[..., 0].to(self.device) >= 0  # [N, P]
        views = self.joined(self.model.detokenise(codes.to(self.device)), sent)
        told = {name: there.repeat_interleave(self.config.data.chunk_len).cpu() for name, there in zip(views, sent.T)}
        return assemble(
            {name: view.flatten(0, 1).cpu() for name, view in views.items()}, self.skeleton, self.views.space, sent=told
        )

    def joined(self, views: list[Tensor], sent: Tensor, clip: Tensor | None = None) -> dict[str, Tensor]:
        """Decoded chunks, P x [N, L, J, 2] in signing space, drawn together: {part: [N, L, J, 2]} in unit lengths. sent [N, P] says which parts tell
        anything, clip [N] whose chunks they are."""
        follows = sent[1:] & sent[:-1] & (True if clip is None else (clip[1:] == clip[:-1])[:, None])  # [N - 1, P]
        return {
            name: join_chunks(view, follows[:, p]) for p, (name, view) in enumerate(self.views.restore(views).items())
        }


class Stream:
    """One live clip: `push` frames, get the chunks that are finished; `finish` gives the rest. Memory does not grow."""

    def __init__(self, tokenizer: Tokenizer, fps: float | None = None) -> None:
        self.tokenizer, self.front = tokenizer, FrontEnd(tokenizer.skeleton, tokenizer.config.data, fps)
        self.rows = torch.zeros(
            0, 1 + tokenizer.skeleton.num_joints, 3
        )  # prepared frames of the window that is not yet full
        self.frames, self.t = 0, 0  # prepared frames, and chunks, so far
        self.said: Said | None = None

    def push(self, frames: np.ndarray | Tensor) -> list[Chunk]:
        """[n, J, 3], or one frame [J, 3]."""
        return self._add(self.front.push(self.tokenizer._checked(frames[None] if frames.ndim == 2 else frames)))

    def finish(self) -> list[Chunk]:
        chunks = self._add(self.front.finish())
        if len(self.rows):
            chunks += self._window(self.rows)
            self.rows = self.rows[:0]
        return chunks

    def _add(self, ready: Prepared) -> list[Chunk]:
        data, size = (
            self.tokenizer.config.data,
            self.tokenizer.config.data.chunk_len * self.tokenizer.config.data.window,
        )
        rows = torch.cat((ready.place[:, None], ready.frames), 1)
        rows = rows[: None if data.max_frames is None else max(data.max_frames - self.frames, 0)]
        self.frames += len(rows)
        rows = torch.cat((self.rows, rows))
        full = len(rows) // size * size
        self.rows = rows[full:]
        return [chunk for window in rows[:full].split(size) for chunk in self._window(window)] if full else []

    def _window(self, rows: Tensor) -> list[Chunk]:
        own = self.tokenizer
        batch = make_chunks(
            pack([rows.numpy()], [0], num_joints=own.skeleton.num_joints).to(own.device), own.skeleton, own.config.data
        )
        codes, views, targets = own._codes(batch)
        chunks, fresh = [], torch.stack([distance(view, target) for view, target in zip(views, targets)], 1).tolist()
        for row in range(int((batch.frames > 0).sum())):
            asked = [Target(t.xy[row], t.weight[row]) for t in targets]
            before, self.said = (
                self.said,
                own._speak(self.said, codes[row].tolist(), [v[row] for v in views], asked, fresh[row]),
            )
            same = [
                before is not None and new[0] >= 0 and before.codes[p] == new for p, new in enumerate(self.said.codes)
            ]
            chunks.append(Chunk(self.t, torch.tensor(self.said.codes), tuple(same)))
            self.t += 1
        return chunks


def distance(views: Tensor, target: Target) -> Tensor:
    """[n, L, J, 2] and what they should be -> [n]: how far the visible joints are off, on average. In float64: the same in any company."""
    visible = target.weight > 0
    far = torch.where(visible, (views - target.xy).double().norm(dim=-1), 0.0).sum((1, 2))
    return far / visible.sum((1, 2)).clamp(min=1)
