"""Signs as the prefix of a causal language model: it reads a clip's sign ids and <SEP>, and writes the sentence.

    B clips   S positions of a prompt, padded at its end   U units that are to be said, of all clips   D width
    V units, then sign ids   P parts   Q levels   N chunks   C ids of a position at most

    prompts = Prompts(vocabulary, units)                  the one builder, for training and for inference
    prompts.batch(codes, texts)                           PromptBatch(ids [B, S], lengths [B], places [U], targets [U])
    prompts.batch(codes)                                  the same without the sentences, which are then to be said
    Prompts(vocabulary, units, positions="chunks")        ids [B, S, C]: a chunk's stand in one position, as their sum

    model = PrefixLM(lm, vocabulary, vectors=vectors)     vectors None: sign rows as drawn (the control)
    PrefixLM(..., how=config.model)                       with what else it says: what is learnt (tuning.py)
    model(batch.ids, batch.places)                        logits [U, V]; the loss is the caller's
    model.generate(batch.ids, batch.lengths, most=60)     B lists of units, the likeliest at each step

A sign id is read and never said: the head knows the text's units alone, and nothing before <SEP> has a target. Prompts
are padded at their ends. What comes later is seen by nobody, so no number of a clip depends on its company; what
generate() adds stands behind the padding, which its mask leaves out, at the positions that would be a lone clip's.

What stays as it was is in no state dict: whoever keeps one keeps with it whose it was (model.frozen, a digest), and
opens the same language model first.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from signstream.config.prefix_lm import Positions, PrefixModel
from signstream.models.prefix_sources import CAUSAL, LanguageModel, Units
from signstream.models.sign_rows import MappedRows, SignRows
from signstream.models.tuning import tuned
from signstream.published import transformers_package
from signstream.tokens.llm import SIGN, LLMSequence, offline
from signstream.tokens.vectors import CodeVectors
from signstream.tokens.vocabulary import Vocabulary

PLAIN = PrefixModel()


class PromptBatch(NamedTuple):
    ids: Tensor  # [B, S] int64, 0 in the padding; or [B, S, C], -1 where there is none
    lengths: Tensor  # [B] int64
    places: Tensor  # [U] int64 in the flat B * S: after which position a unit is to be said
    targets: Tensor  # [U] int64 which


class Cell(NamedTuple):
    """A position."""

    ids: list[int]
    label: int  # what is to be said there; below 0: nobody asks


class Prompts:
    """<SIGN> codes </SIGN> <SEP> units end, as ids and labels."""

    def __init__(
        self, vocabulary: Vocabulary, units: Units, *, most: int | None = None, positions: Positions = "ids"
    ) -> None:
        """`most`: units of a sentence; the others are cut."""
        self.vocabulary, self.units, self.most, self.positions = vocabulary, units, most, positions

    def of(self, codes: Tensor, text: str | None = None) -> LLMSequence:
        """codes [N, P, Q], no chunk of them where nothing is shown; without a text it is still to be said. Where a
        chunk's ids are summed, runs are written out: what holds would be nobody's there."""
        return self.behind(codes, [] if text is None else self.units.ids(text, self.most))

    def behind(self, codes: Tensor, units: Sequence[int]) -> LLMSequence:
        chunks = self.vocabulary.chunks(codes, rle=self.positions == "ids")
        return offline(self.vocabulary, chunks, units)

    def cells(self, sequence: LLMSequence) -> list[Cell]:
        cells: list[Cell] = []
        end, heard = self.vocabulary.special("</SIGN>"), -1
        for i, label, kind, chunk in zip(*sequence):
            code = self.positions == "chunks" and kind == SIGN and i != end
            if code and chunk == heard:
                cells[-1].ids.append(i)
            else:
                cells.append(Cell([i], label))
            heard = chunk if code else -1
        return cells

    def batch(self, codes: Sequence[Tensor], texts: Sequence[str] | None = None) -> PromptBatch:
        return self.collated([self.of(clip, texts[i] if texts is not None else None) for i, clip in enumerate(codes)])

    def collated(self, sequences: Sequence[LLMSequence]) -> PromptBatch:
        made = [self.cells(sequence) for sequence in sequences]
        longest = max(map(len, made), default=0)
        said = [
            (i * longest + at - 1, cell.label)
            for i, cells in enumerate(made)
            for at, cell in enumerate(cells)
            if cell.label >= 0
        ]
        places, targets = torch.tensor(said, dtype=torch.int64).view(-1, 2).unbind(1)
        most = max((len(cell.ids) for cells in made for cell in cells), default=1)
        none = 0 if self.positions == "ids" else -1
        rows = [[cell.ids + [none] * (most - len(cell.ids)) for cell in cells] for cells in made]
        rows = [row + [[none] * most] * (longest - len(row)) for row in rows]
        ids = torch.tensor(rows, dtype=torch.int64).view(len(made), longest, most)
        lengths = torch.tensor([len(cells) for cells in made], dtype=torch.int64)
        return PromptBatch(ids[..., 0] if self.positions == "ids" else ids, lengths, places, targets)


class PrefixLM(nn.Module):
    def __init__(
        self,
        lm: LanguageModel,
        vocabulary: Vocabulary,
        *,
        vectors: CodeVectors | None = None,
        seed: int = 0,
        how: PrefixModel = PLAIN,
        dim: int = 0,
    ) -> None:
        """`dim`: of vectors that are mapped, where a checkpoint is to bring them."""
        super().__init__()
        assert vocabulary.offset == lm.network.config.vocab_size, "sign ids come after the text's"
        self.lm, self.tune = lm.network, how.tune
        text = self.lm.get_input_embeddings().weight
        self.offset, width, spread = vocabulary.offset, text.shape[1], float(text.detach().std())
        self.signs: SignRows | MappedRows
        if how.signs != "mapped":
            self.signs = SignRows(vocabulary, width, spread=spread, vectors=vectors, seed=seed)
        elif vectors is not None:
            self.signs = MappedRows.begun(vocabulary, width, spread=spread, vectors=vectors, seed=seed)
        else:
            self.signs = MappedRows(vocabulary, width, dim=dim)
        self.frozen = tuned(self.lm, how, seed=seed)
        named = self.named_parameters(remove_duplicate=False)
        self.stays = frozenset(name for name, weight in named if not weight.requires_grad)
        known = inspect.signature(self.lm.model.forward).parameters
        self.cache_name = "cache" if "cache" in known else "past_key_values"  # versions differ
        self.end = lm.units.end

    def train(self, mode: bool = True) -> PrefixLM:
        """What learns nothing drops nothing."""
        super().train(mode)
        if self.tune == "rows":
            self.lm.eval()
        return self

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Without what stays."""
        state = super().state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)
        for name in self.stays:
            del state[prefix + name]
        return state

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """From what state_dict gives."""
        whole = super().state_dict()
        return super().load_state_dict({**state, **{name: whole[name] for name in self.stays}}, strict, assign)

    def embedded(self, ids: Tensor) -> Tensor:
        """[B, S], or [B, S, C] with -1 for none -> [B, S, D]. A sum is as wide as one of its rows, however many they
        are; what a part is to weigh beyond that, its rows can learn."""
        if ids.ndim == 2:
            return self._rows(ids)
        some = (ids >= 0)[..., None]
        total = torch.where(some, self._rows(ids.clamp(min=0)), 0).sum(2)
        return total * some.sum(2).clamp(min=1).rsqrt()

    def _rows(self, ids: Tensor) -> Tensor:
        """[..] -> [.., D]"""
        sign = ids >= self.offset
        text = self.lm.get_input_embeddings()(ids.masked_fill(sign, 0))
        signs = self.signs((ids - self.offset).clamp(min=0))
        return torch.where(sign[..., None], signs, text)

    def forward(self, ids: Tensor, places: Tensor) -> Tensor:
        """[B, S] or [B, S, C], [U] -> [U, V]"""
        hidden = self._read(self.embedded(ids)).last_hidden_state  # [B, S, D]
        return self.lm.lm_head(hidden.flatten(0, 1)[places])

    def _read(self, embeds: Tensor, cache: Any = None) -> Any:
        """From the first position on; earlier ids are seen, and no others."""
        clips, steps = embeds.shape[:2]
        later = torch.ones(steps, steps, dtype=torch.bool, device=embeds.device).triu(1)
        mask = hiding(later).expand(clips, 1, steps, steps)
        given = {} if cache is None else {self.cache_name: cache}
        return self.lm.model(inputs_embeds=embeds, attention_mask=mask, use_cache=cache is not None, **given)

    @torch.no_grad()
    def generate(self, ids: Tensor, lengths: Tensor, *, most: int) -> list[list[int]]:
        """Of each clip, at most so many units, up to the end and without it. In evaluation mode, for which the caller
        cares."""
        cache, steps = transformers_package(CAUSAL.many).DynamicCache(), ids.shape[1]
        hidden = self._read(self.embedded(ids), cache).last_hidden_state
        hidden = hidden[torch.arange(len(ids), device=ids.device), lengths - 1]  # [B, D] of <SEP>
        padding = torch.arange(steps, device=ids.device) >= lengths[:, None]  # [B, S]
        said: list[Tensor] = []
        done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        for step in range(most):
            unit = self.lm.lm_head(hidden).argmax(-1)  # [B]
            done = done | (unit == self.end)
            said.append(unit)
            if step + 1 == most or bool(done.all()):
                break
            hidden_keys = torch.cat((padding, padding.new_zeros(len(ids), step + 1)), 1)  # [B, S + step + 1]
            out = self.lm.model(
                inputs_embeds=self.embedded(unit[:, None]),
                attention_mask=hiding(hidden_keys)[:, None, None],
                position_ids=(lengths + step)[:, None],
                use_cache=True,
                **{self.cache_name: cache},
            )
            hidden = out.last_hidden_state[:, 0]
        rows = torch.stack(said, 1).tolist()
        return [row[: row.index(self.end)] if self.end in row else row for row in rows]


def hiding(hidden: Tensor) -> Tensor:
    """bool -> what is added to attention's scores. Given as a mask of four dimensions, it is taken as it is, and nobody
    waits for the device to know whether there is anything to hide."""
    return torch.zeros_like(hidden, dtype=torch.float32).masked_fill(hidden, float("-inf"))
