"""Poses to tokens and back, from a checkpoint alone.

    tokenizer = signstream.load("checkpoints/quickstart")      # a checkpoint, a run's folder, or an experiment's
    tokens = tokenizer.encode(poses, fps=25)                   # [T, 133, 3] (x px, y px, score) -> TokenSequence
    poses = tokenizer.decode(tokens)                           # -> [T', 133, 3] (x, y in unit lengths from the nose,
                                                               #    1 where the tokens tell the joint)
    stream = tokenizer.stream(fps=25)
    for frame in camera:
        for chunk in stream.push(frame): ...                   # the same codes, as soon as they are known

A clip's own frame rate is brought to the config's, so T' frames are at `tokens.fps`. Which codes are sent is decided
chunk by chunk: first the budget (models/rvq/budget.py), then holding (holding.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from signstream.config import Export, check_names
from signstream.config.rvq import Config
from signstream.data.collate import ChunkBatch, make_chunks
from signstream.data.frontend import FrontEnd, Prepared, prepare
from signstream.errors import UserError, shown
from signstream.inference.holding import Choice, Sent, hold
from signstream.inference.inputs import checked_place, checked_poses
from signstream.io.batch import pack
from signstream.models.rvq.budget import levels_sent, worth
from signstream.models.rvq.rvq_model import Earlier
from signstream.models.rvq.same_bits import one_thread
from signstream.space import assemble, follows_on, in_pixels, join_chunks, scores
from signstream.tasks.rvq.losses import Losses, chunks_before, valid_chunks
from signstream.tasks.rvq.restore import restore
from signstream.tasks.rvq.views import Target, Views
from signstream.tokens.codes import chosen_prefix, held_chunks, where_visible
from signstream.tokens.format import TokenSequence
from signstream.tokens.vectors import CodeVectors
from signstream.tokens.vocabulary import Vocabulary
from signstream.training import checkpoint
from signstream.training.distributed import pick_device
from signstream.training.run_folder import best_of


@dataclass(frozen=True)
class Chunk:
    """A finished chunk of a stream."""

    t: int
    codes: Tensor  # [P, Q]
    held: tuple[bool, ...]  # P: whether the part repeats the codes of the chunk before
    place: Tensor  # [n, 3] where the signer stood in its n frames: for Tokenizer.decode


class Reading(NamedTuple):
    """Chunks, and what they are to the model before any budget."""

    batch: ChunkBatch
    targets: list[Target]  # P
    latents: Tensor  # [N, P, Z]
    codes: Tensor  # [N, P, Q] all levels; -1 where a chunk shows nothing of the part


class Encoded(NamedTuple):
    """A clip's tokens, and what the quantiser was given for them."""

    tokens: TokenSequence
    latents: Tensor | None  # [N, P, Z]; 0 where a chunk shows nothing of the part


class Tokenizer:
    """`codes_per_chunk` (on average, or "full") and `hold` (the threshold of holding, 0: never) are the config's
    unless set.

    Encoding sets the process's number of torch's threads to one and back, for each batch: with more, how a matrix
    product is shared out depends on its size, and with that its last bits; and a stream must give the bits of the
    file. Other threads of the process run on one as well meanwhile. Decoding does not."""

    def __init__(
        self, state: Mapping[str, Any], device: str | torch.device = "cpu", export: Export | None = None
    ) -> None:
        self.config = checkpoint.config_of(state, Config)
        check_names(self.config, ("arch",))
        self._set_export(export or self.config.export)
        self.device = torch.device(device)
        self.skeleton, self.model, space, self.budget = restore(self.config, state)
        if not bool(self.model.quantizer.initialised):
            begins = "before the codebooks begin (train.warmup_steps): train on"
            raise UserError(f"the checkpoint is of step {state['step']}, {begins}")
        self.model.to(self.device).eval().requires_grad_(False)
        self.views = Views(self.skeleton, space)
        self.losses = Losses(self.config, [part.name for part in self.skeleton.parts])
        self.parts = tuple(part.tag for part in self.skeleton.parts)
        self.levels = tuple(self.model.quantizer.levels.tolist())
        constants = {"space.shift": space.shift, "space.scale": space.scale, "space.attach": space.attach}
        self.digest = checkpoint.digest({**self.model.state_dict(), **constants})

    def _set_export(self, export: Export) -> None:
        self.codes_per_chunk: float | str = export.codes_per_chunk
        self.hold = export.rle_threshold if export.enable_rle else 0.0

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Tokenizer:
        return cls(checkpoint.load(best_of(path)), pick_device(device, 0, 1))

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.parts, self.levels, self.config.model.rvq.codebook_size)

    @property
    def code_vectors(self) -> CodeVectors:
        """What the codes stand for, whatever kind of quantiser they are of."""
        shape = (self.config.model.rvq.codebook_size, len(self.parts), max(self.levels))
        books = []
        for level in range(shape[2]):
            codes = torch.full(shape, -1, device=self.device)
            codes[..., level] = torch.arange(shape[0], device=self.device)[:, None]
            books.append(self.model.quantizer.decode_codes(codes))  # [P, K, Z]
        has_level = torch.arange(shape[2]) < torch.tensor(self.levels)[:, None]  # [P, Q]
        table = torch.stack(books, 1).cpu() * has_level[..., None, None]
        return CodeVectors(self.parts, self.levels, self.digest, table)

    @property
    def hold_limit(self) -> float:
        """By how much more a held part may be off, in signing space."""
        return self.hold * self.config.data.normalize.bbox_range

    # -- poses to codes

    def encode(self, poses: np.ndarray | Tensor, fps: float | None = None, name: str = "clip") -> TokenSequence:
        """poses [T, J, 3]; `fps` None: the config's."""
        ready = prepare(self.checked(poses), self.skeleton, self.config.data, fps=fps)
        return self.encode_prepared([ready.rows().numpy()], [name])[0]

    def encode_prepared(self, clips: Sequence[np.ndarray], names: Sequence[str]) -> list[TokenSequence]:
        """Clips [T', 1 + J, 3] as the pose cache holds them, in one pass."""
        return [encoded.tokens for encoded in self.encode_both(clips, names)]

    def encode_both(self, clips: Sequence[np.ndarray], names: Sequence[str]) -> list[Encoded]:
        """Likewise, with their latents."""
        batch = self.chunks_of(clips, range(len(clips)))
        choice = self.choose(batch)
        offers = choice.offers(look_back=self.hold > 0)
        clip_of = torch.where(batch.frames > 0, batch.clip, -1)
        owners = clip_of.tolist()
        encoded = []
        for i, (clip, name) in enumerate(zip(clips, names)):
            last: Sent | None = None
            codes = []
            for offer in (offer for offer, owner in zip(offers, owners) if owner == i):
                last = hold(last, offer, self.hold_limit, told=self.model.told)
                codes.append(last.codes)
            table = torch.tensor(codes, dtype=torch.int64).reshape(-1, *choice.codes.shape[1:])
            encoded.append(Encoded(self.sequence(table, len(clip), name), choice.latents[clip_of == i].cpu()))
        return encoded

    def sequence(self, codes: Tensor, frames: int, name: str) -> TokenSequence:
        """codes [N, P, Q] of a clip of so many frames as this tokenizer's tokens."""
        return TokenSequence(
            name=name,
            fps=self.config.data.fps,
            chunk_len=self.config.data.chunk_len,
            num_frames=frames,
            codes=codes,
            parts=self.parts,
            levels=self.levels,
            codebook_size=self.config.model.rvq.codebook_size,
            tokenizer=self.digest,
        )

    def stream(self, fps: float | None = None) -> Stream:
        return Stream(self, fps)

    def checked(self, poses: np.ndarray | Tensor, one_frame: bool = False) -> Tensor:
        """float32 [T, J, 3], or an error that says what is expected."""
        return checked_poses(poses, self.skeleton.num_joints, one_frame=one_frame)

    def chunks_of(self, clips: Sequence[np.ndarray], index: Sequence[int]) -> ChunkBatch:
        """Clips [T', 1 + J, 3] and their numbers -> chunks on the device."""
        packed = pack(clips, index, num_joints=self.skeleton.num_joints).to(self.device)
        return make_chunks(packed, self.skeleton, self.config.data)

    @torch.no_grad()
    def read(self, clips: Sequence[np.ndarray], index: Sequence[int]) -> Reading:
        """Clips [T', 1 + J, 3] and their numbers, as the model sees them."""
        batch = self.chunks_of(clips, index)
        inputs, targets = self.views.of(batch)
        latents, codes = self.model.read(inputs, Earlier(chunks_before(batch)))
        return Reading(batch, targets, latents.transpose(0, 1), where_visible(codes, valid_chunks(targets).T))

    @torch.no_grad()
    def choose(self, batch: ChunkBatch, earlier: Earlier | None = None) -> Choice:
        """What the budget sends of each chunk, and what that decodes to (as it is, where nothing will be asked of
        it). `earlier`: what lies before the batch; the batch itself says it of whole clips."""
        with one_thread():
            inputs, targets = self.views.of(batch)
            visible = valid_chunks(targets).T
            alone = self.model.encode_alone(inputs)
            latents = self.model.in_their_light(alone, earlier or Earlier(chunks_before(batch)))
            budgeted = self.codes_per_chunk != "full"
            if budgeted and self.budget is None:
                missing = "the checkpoint has no budget, since its run had no validation split"
                raise UserError(f"{missing}: set export.codes_per_chunk=full")
            if budgeted and len(batch):
                return self._bought(latents, alone, visible=visible, targets=targets)
            codes = where_visible(self.model.nearest(latents), visible)
            views = self.model.detokenise(codes) if self.hold > 0 and len(batch) else [each.xy for each in targets]
            return Choice(codes, views, targets, of_shown(latents, visible), alone)

    def _bought(self, latents: Tensor, alone: Tensor, *, visible: Tensor, targets: list[Target]) -> Choice:
        prefixes = self.prefixes_of(latents.transpose(0, 1), visible)
        views = self.model.decode_prefixes(prefixes)
        sent = self.levels_for(self.worth_of(views, targets), visible, self.codes_per_chunk)
        codes = chosen_prefix(prefixes, sent)
        return Choice(codes, chosen_prefixes(views, sent), targets, of_shown(latents, visible), alone)

    def prefixes_of(self, latents: Tensor, visible: Tensor) -> Tensor:
        """[N, P, Z] -> [N, P, Q, Q], what a budget chooses from: in row n - 1 the best n codes; -1 where nothing is
        visible."""
        return where_visible(self.model.prefixes(latents.transpose(0, 1)), visible[..., None])

    def worth_of(self, prefixes: Sequence[Tensor], targets: Sequence[Target]) -> Tensor:
        """[N, P, Q]: what each code takes off the loss; prefixes P x [Q, N, L, J, 2], decoded from the first 1 .. Q."""
        return worth(self.losses.level_costs(prefixes, targets))

    def levels_for(self, value: Tensor, visible: Tensor, rate: float | str) -> Tensor:
        """[N, P]: how many codes are sent at `rate` codes a chunk; value [N, P, Q] as worth_of has it, visible [N,
        P]."""
        price = -torch.inf if self.budget is None else self.budget.price(rate)
        return levels_sent(value, self.model.quantizer.levels, visible, price=price)

    # -- codes to poses

    def decode(self, tokens: TokenSequence, place: Tensor | Sequence[float] | None = None) -> Tensor:
        """[T', J, 3] in unit lengths from the nose, or in pixels with a place: (x, y, pixels a unit length), one or
        one a frame [T', 3]. The tokens may be of some of the parts. The third number is 1 where they tell the joint
        (space.scores); where it is 0, x and y are what is usual, or the nose."""
        if not isinstance(tokens, TokenSequence):
            raise UserError(f"tokens are {shown(tokens)}: a TokenSequence is expected, as encode and read_jsonl give")
        if tokens.tokenizer != self.digest:
            other = f"{tokens.name}: its tokens are of the tokenizer {tokens.tokenizer}, this one is {self.digest}"
            raise UserError(f"{other}: load the checkpoint that made them")
        codes = self.of_all_parts(tokens)
        known = self._known(codes, tokens.parts)
        poses = torch.cat((self.decode_codes(codes)[..., :2], known[..., None]), -1)[: tokens.num_frames]
        if place is None:
            return poses
        return in_pixels(poses, checked_place(place, len(poses)))

    def _known(self, codes: Tensor, tags: Sequence[str]) -> Tensor:
        """codes [N, P, Q], of the parts that the tokens are of -> [N * L, J]: 1 where one of them draws it."""
        sent = (codes[..., 0] >= 0).repeat_interleave(self.config.data.chunk_len, 0)  # [N * L, P]
        could = {
            part.name: sent[:, p]
            for p, part in enumerate(self.skeleton.parts)
            if part.tag in tags and p != self.model.told
        }
        if not could:
            return torch.zeros(len(sent), self.skeleton.num_joints)
        return scores(could, self.skeleton, self.views.space)

    def of_all_parts(self, tokens: TokenSequence) -> Tensor:
        """Codes [N, P, Q] of all of the tokenizer's parts and levels; -1 for those that the tokens leave out."""
        codes = tokens.codes.new_full((len(tokens.codes), len(self.parts), max(self.levels)), -1)
        codes[:, [self.parts.index(tag) for tag in tokens.parts], : tokens.codes.shape[2]] = tokens.codes
        return codes

    @torch.no_grad()
    def decode_codes(self, codes: Tensor) -> Tensor:
        """[N, P, Q] -> [N * L, J, 3] in unit lengths."""
        sent = codes[..., 0].to(self.device) >= 0  # [N, P]
        views = self.joined(self.model.detokenise(codes.to(self.device)), sent)
        sent_frames = sent.T.repeat_interleave(self.config.data.chunk_len, 1).cpu()  # [P, N * L]
        return assemble(
            {name: view.flatten(0, 1).cpu() for name, view in self.views.drawn(views, self.model.told).items()},
            self.skeleton,
            self.views.space,
            sent=dict(zip(views, sent_frames)),
        )

    def joined(self, views: list[Tensor], sent: Tensor, clip: Tensor | None = None) -> dict[str, Tensor]:
        """Decoded chunks, P x [N, L, J, 2] in signing space, drawn together: {part: [N, L, J, 2]} in unit lengths. sent
        [N, P] says which parts tell anything, clip [N] whose chunks they are."""
        restored, follows = self.views.restore(views), follows_on(sent, clip)
        joined = {name: join_chunks(view, follows[:, p]) for p, (name, view) in enumerate(restored.items())}
        return self.views.put_together(joined, self.model.told, sent=sent)


def of_shown(latents: Tensor, visible: Tensor) -> Tensor:
    """[P, N, Z] and [N, P] -> [N, P, Z], 0 where a chunk shows nothing of the part"""
    return torch.where(visible[..., None], latents.transpose(0, 1), 0.0)


def chosen_prefixes(prefixes: Sequence[Tensor], sent: Tensor) -> list[Tensor]:
    """prefixes P x [Q, N, L, J, 2] and how many codes are sent [N, P] -> P x [N, L, J, 2]; anything where none is."""
    chunk = torch.arange(len(sent), device=sent.device)
    return [view[(sent[:, p] - 1).clamp(min=0), chunk] for p, view in enumerate(prefixes)]


class Stream:
    """One live clip: `push` frames, get the chunks that are finished; `finish` gives the rest. Memory does not grow."""

    def __init__(self, tokenizer: Tokenizer, fps: float | None = None) -> None:
        self.tokenizer = tokenizer
        self.front = FrontEnd(tokenizer.skeleton, tokenizer.config.data, fps)
        self.rows = torch.zeros(0, 1 + tokenizer.skeleton.num_joints, 3)  # of the window that is not yet full
        self.frames = 0  # prepared, so far
        self.t = 0  # chunks so far
        self.last: Sent | None = None
        self.alone: Tensor | None = None  # [P, n, Z] of the chunks that the next ones look back on

    def push(self, frames: np.ndarray | Tensor) -> list[Chunk]:
        """[n, J, 3], or one frame [J, 3]."""
        return self._add(self.front.push(self.tokenizer.checked(frames, one_frame=True)))

    def finish(self) -> list[Chunk]:
        chunks = self._add(self.front.finish())
        if len(self.rows):
            chunks += self._window(self.rows)
            self.rows = self.rows[:0]
        return chunks

    def _add(self, ready: Prepared) -> list[Chunk]:
        data = self.tokenizer.config.data
        size = data.chunk_len * data.window
        rows = ready.rows()
        if data.max_frames is not None:
            rows = rows[: max(data.max_frames - self.frames, 0)]
        self.frames += len(rows)
        rows = torch.cat((self.rows, rows))
        full = len(rows) // size * size
        self.rows = rows[full:]
        return [chunk for window in rows[:full].split(size) for chunk in self._window(window)] if full else []

    def _earlier(self, batch: ChunkBatch) -> Earlier:
        kept = 0 if self.alone is None else self.alone.shape[1]
        return Earlier(chunks_before(batch) + kept, self.alone)

    def _window(self, rows: Tensor) -> list[Chunk]:
        tokenizer = self.tokenizer
        batch = tokenizer.chunks_of([rows.numpy()], [0])
        choice = tokenizer.choose(batch, self._earlier(batch))
        self.alone = tokenizer.model.looked_back_on(self.alone, choice.alone)
        chunks = []
        offers = choice.offers()[: int((batch.frames > 0).sum())]
        for offer, place in zip(offers, rows[:, 0].split(tokenizer.config.data.chunk_len)):
            before = self.last
            self.last = hold(before, offer, tokenizer.hold_limit, told=tokenizer.model.told)
            codes = torch.tensor(self.last.codes)
            held = torch.zeros(len(codes), dtype=torch.bool)
            if before is not None:
                held = held_chunks(torch.stack((torch.tensor(before.codes), codes)))[1]
            chunks.append(Chunk(self.t, codes, tuple(held.tolist()), place))
            self.t += 1
        return chunks
