"""What a language model keeps of a stream: its prompt, the last chunks with the words said in them, some summaries.

    S tokens of a piece, or of a whole sequence   K entries that are kept   B rows   H heads of keys   D width

    layout = Layout(kind [S], chunk [S])
    read(decoder, embeds [B, S, D], mask=window_mask(layout, window), positions=arange(S)) -> [B, S, D]

    kept = KVWindow(decoder, window)
    kept.step(embeds [B, S, D], layout) -> [B, S, D]    the same by pieces, for hours, in at most window.bound entries
    kept.commit()                                       the words since the last commit stay
    kept.roll_back()                                    or were never thought

Both go by one rule, `stays`. A summary is a token with a learnt embedding, after the last chunk of a group and its
words: it hears what they hear, and outlives them, in a ring of the last reach / group groups.

An entry keeps its position. Before a chunk may pass `window.positions`, the stream is moved back to right behind the
prompt, which stays at 0: its keys are turned, since rotary attention knows differences alone. From there on all is
exactly as if the prompt had been said again, that much later, so no distance is longer than what a model was trained
on. Up to there it is the single pass above.

`decoder` is the body of a causal model of transformers with rotary positions: lm.model of Qwen2 or Llama, with
attention "sdpa" or "eager". Tried with transformers 4.45, 4.48, 4.57, 5.0, 5.13 and 5.24: it asks of them that a mask
of four dimensions is taken as it is, and that a cache needs no more than `update` and `get_seq_length`.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from signstream.errors import UserError
from signstream.models.decoder_pass import Turns, passed, plain
from signstream.tokens.llm import SIGN, SINK, WORD

SUMMARY = 3  # after the kinds of tokens/llm.py
ATTENTION = ("sdpa", "eager")


class Layout(NamedTuple):
    """In a stream: on the CPU, [S]. In training: anywhere, [.., S]."""

    kind: Tensor  # int64: SINK (of the prompt, which comes first), SIGN, WORD or SUMMARY
    chunk: Tensor  # int64: the last chunk that was heard, a sign's own; before the first: -1


@dataclass(frozen=True)
class Window:
    sinks: int  # the most tokens of a prompt
    chunks: int  # how many stay, the present one among them
    entries: int  # the most tokens and words of one chunk
    positions: int  # of the model, or as many as it saw in training
    group: int = 1  # chunks to a group, which ends with
    summary: int = 0  # summary tokens, at most
    reach: int = 0  # and these stay for so many chunks

    def __post_init__(self) -> None:
        for field in fields(self):
            least = 0 if field.name in ("sinks", "summary", "reach") else 1
            if getattr(self, field.name) < least:
                raise UserError(f"the window's {field.name} is {getattr(self, field.name)}: at least {least}")
        if self.summary and self.reach <= self.chunks:
            raise UserError(f"summaries stay for {self.reach} chunks, no longer than the window's {self.chunks}")
        if self.summary and self.group > self.chunks:
            raise UserError(f"a summary of {self.group} chunks would hear no more than the window's {self.chunks}")
        if self.span > self.positions:
            less = "fewer chunks, or a shorter reach where there are summaries"
            raise UserError(f"the window needs {self.span} positions and has {self.positions}: take {less}")

    @property
    def bound(self) -> int:
        """The most entries that are kept at any time."""
        return self.sinks + self.chunks * self.entries + self.summary * math.ceil(self.reach / self.group)

    @property
    def span(self) -> int:
        """The most positions from the prompt to the end of a chunk, once the stream was moved back."""
        longest = max(self.chunks, self.reach if self.summary else 0)
        return self.sinks + longest * (self.entries + self.summary)


def stays(layout: Layout, chunk: Tensor | int, window: Window) -> Tensor:
    """Which tokens are there while `chunk` is heard, and until the next one."""
    life = torch.where(layout.kind == SUMMARY, window.reach, window.chunks)
    return (layout.kind == SINK) | (chunk - layout.chunk < life)


def window_mask(layout: Layout, window: Window) -> Tensor:
    """[.., S, S] bool: what each token of a whole sequence sees, and would see if it were streamed."""
    keys = Layout(layout.kind[..., None, :], layout.chunk[..., None, :])
    return stays(keys, layout.chunk[..., None], window).tril()


def read(
    decoder: nn.Module, embeds: Tensor, *, mask: Tensor, positions: Tensor, kept: KVWindow | None = None
) -> Tensor:
    """embeds [B, S, D], mask [S, K] or [B, S, K] bool, positions [S] or [B, S] -> [B, S, D], before the model's head"""
    floor = torch.finfo(embeds.dtype).min
    added = torch.zeros_like(mask, dtype=embeds.dtype).masked_fill(~mask, floor)
    cache = {} if kept is None else {kept.name: kept}
    return decoder(
        inputs_embeds=embeds,
        attention_mask=added[:, None] if mask.ndim == 3 else added[None, None],
        position_ids=positions if positions.ndim == 2 else positions[None],
        use_cache=False,
        **cache,
    ).last_hidden_state


class KVWindow:
    """In transformers' eyes a cache."""

    def __init__(self, decoder: Any, window: Window) -> None:
        most = int(decoder.config.max_position_embeddings)
        if window.positions > most:
            raise UserError(f"the window has {window.positions} positions and the language model {most}")
        if getattr(decoder.config, "_attn_implementation", "eager") not in ATTENTION:
            raise UserError('a window needs a language model that was opened with attn_implementation="sdpa"')
        self.decoder, self.window = decoder, window
        self.turns = Turns.of(decoder, window.positions) if plain(decoder) else None
        taken = inspect.signature(decoder.forward).parameters
        self.name = "cache" if "cache" in taken else "past_key_values"  # versions differ
        self.keys: list[Tensor] = []  # of each layer [B, H, K, D], turned to their positions
        self.values: list[Tensor] = []
        self.layout = Layout(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))  # [K]
        self.positions = torch.empty(0, dtype=torch.int64)  # [K]
        self.next = 0  # position
        self.thought = 0  # words at the end that may be taken back

    @torch.no_grad()
    def step(self, embeds: Tensor, layout: Layout) -> Tensor:
        """[B, S, D] -> [B, S, D]. A piece of words alone is thought, until commit() or roll_back()."""
        if len(layout.chunk) == 1:
            return self._step(embeds, layout)
        counts = torch.unique_consecutive(layout.chunk, return_counts=True)[1].tolist()
        heard: list[Tensor] = []
        for part, kind, chunk in zip(embeds.split(counts, 1), layout.kind.split(counts), layout.chunk.split(counts)):
            if heard:
                self.commit()
            heard.append(self._step(part, Layout(kind, chunk)))
        return torch.cat(heard, 1)

    def commit(self) -> None:
        self.thought = 0

    def roll_back(self) -> None:
        left = slice(len(self.positions) - self.thought)
        self.layout = Layout(self.layout.kind[left], self.layout.chunk[left])
        self.positions = self.positions[left]
        self.keys = [keys[:, :, left] for keys in self.keys]
        self.values = [values[:, :, left] for values in self.values]
        self.next -= self.thought
        self.thought = 0

    # -- what transformers asks of a cache

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *args: Any, **named: Any) -> tuple[Tensor, Tensor]:
        """Of a layer, [B, H, S, D] that are new -> [B, H, K, D] of all."""
        if layer_idx == len(self.keys):
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[layer_idx] = torch.cat((self.keys[layer_idx], key), 2)
            self.values[layer_idx] = torch.cat((self.values[layer_idx], value), 2)
        return self.keys[layer_idx], self.values[layer_idx]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.keys[layer_idx].shape[2] if layer_idx < len(self.keys) else 0

    # -- one chunk, or a part of it

    def _step(self, embeds: Tensor, piece: Layout) -> Tensor:
        self._enter(piece)
        count, before = len(piece.kind), len(self.positions)
        positions = torch.arange(self.next, self.next + count)
        self.layout, self.positions = self._with(piece), torch.cat((self.positions, positions))
        self.next += count
        mask = torch.ones(count, before + count, dtype=torch.bool, device=embeds.device).tril(before)
        positions = positions.to(embeds.device)
        if self.turns is None:
            return read(self.decoder, embeds, mask=mask, positions=positions, kept=self)
        return passed(self.decoder, embeds, mask=mask, turns=self.turns.at(positions), kept=self)

    def _with(self, piece: Layout) -> Layout:
        return Layout(torch.cat((self.layout.kind, piece.kind)), torch.cat((self.layout.chunk, piece.chunk)))

    def _enter(self, piece: Layout) -> None:
        chunk, words = int(piece.chunk[0]), bool((piece.kind == WORD).all())
        now = int(self.layout.chunk[-1]) if len(self.positions) else -1
        assert chunk >= now, "chunks come in their order"
        assert chunk == now or int(piece.kind[0]) != WORD, "a word is of the last chunk that was heard"
        assert words or not self.thought, "words were thought: commit() or roll_back() comes first"
        self._check(self._with(piece), chunk)
        if chunk > now:
            self._keep(stays(self.layout, chunk, self.window).nonzero()[:, 0])
            if self.next + self.window.entries + self.window.summary > self.window.positions:
                self._move_back()
        self.thought += len(piece.kind) * words

    def _check(self, layout: Layout, chunk: int) -> None:
        """That no chunk brings more than the bound counts on."""
        window, kinds = self.window, layout.kind[layout.chunk == chunk].tolist()
        sinks, summaries = layout.kind.tolist().count(SINK), kinds.count(SUMMARY)
        entries = kinds.count(SIGN) + kinds.count(WORD)
        assert SINK not in layout.kind[sinks:], "the prompt comes first"
        assert not summaries or (chunk + 1) % window.group == 0, "a summary ends a group"
        for what, count, most in (
            ("prompt has {} tokens", sinks, window.sinks),
            ("chunk and what was said in it have {} tokens", entries, window.entries),
            ("summary has {} tokens", summaries, window.summary),
        ):
            if count > most:
                raise UserError(f"a {what.format(count)}, and the window is made for {most}")

    def _keep(self, index: Tensor) -> None:
        if len(index) == len(self.positions):
            return
        self.layout = Layout(self.layout.kind[index], self.layout.chunk[index])
        self.positions = self.positions[index]
        self.keys = [keys.index_select(2, index.to(keys.device)) for keys in self.keys]
        self.values = [values.index_select(2, index.to(values.device)) for values in self.values]

    def _move_back(self) -> None:
        """What follows the prompt, to right behind it."""
        sinks = int((self.layout.kind == SINK).sum())
        by = int(self.positions[sinks]) - sinks if sinks < len(self.positions) else self.next - sinks
        self.positions[sinks:] -= by
        self.next -= by
        buffers = self.decoder.named_buffers()
        rates = next(buffer for name, buffer in buffers if name.endswith("rotary_emb.inv_freq"))  # [D / 2]
        self.keys = [torch.cat((keys[:, :, :sinks], turned(keys[:, :, sinks:], -by * rates)), 2) for keys in self.keys]


def turned(keys: Tensor, angles: Tensor) -> Tensor:
    """[.., D] by [D / 2], as Qwen2 and Llama pair them: each of the first half with that of the second."""
    a, b = keys.float().chunk(2, -1)
    cos, sin = angles.float().cos(), angles.float().sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(keys.dtype)
