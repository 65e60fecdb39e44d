"""Signs as the prefix of a causal language model: it reads a clip's sign ids and <SEP>, and writes the sentence.

    B clips   S ids of a prompt, padded at its end   U units that are to be said, of all clips   V units, then sign ids
    D width   P parts   Q levels   N chunks

    prompts = Prompts(vocabulary, units)                  the one builder, for training and for inference
    prompts.batch(codes, texts)                           PromptBatch(ids [B, S], lengths [B], places [U], targets [U])
    prompts.batch(codes)                                  the same without the sentences, which are then to be said

    model = PrefixLM(lm, vocabulary, vectors=vectors)     vectors None: sign rows as drawn (the control)
    model(batch.ids, batch.places)                        logits [U, V]; the loss is the caller's
    model.generate(batch.ids, batch.lengths, most=60)     B lists of units, the likeliest at each step

A sign id is read and never said: the head knows the text's units alone, and nothing before <SEP> has a target. Prompts
are padded at their ends. What comes later is seen by nobody, so no number of a clip depends on its company; what
generate() adds stands behind the padding, which its mask leaves out, at the positions that would be a lone clip's.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from signstream.models.prefix_sources import CAUSAL, LanguageModel, Units
from signstream.models.recognition_fronts import stretched
from signstream.published import transformers_package
from signstream.tokens.llm import to_llm
from signstream.tokens.vectors import CodeVectors
from signstream.tokens.vocabulary import SPECIALS, Vocabulary


class PromptBatch(NamedTuple):
    ids: Tensor  # [B, S] int64, 0 in the padding
    lengths: Tensor  # [B] int64
    places: Tensor  # [U] int64 in the flat B * S: after which id a unit is to be said
    targets: Tensor  # [U] int64 which


class Prompts:
    """<SIGN> codes </SIGN> <SEP> units end, as ids and labels."""

    def __init__(self, vocabulary: Vocabulary, units: Units, *, most: int | None = None) -> None:
        """`most`: units of a sentence; the others are cut."""
        self.vocabulary, self.units, self.most = vocabulary, units, most

    def of(self, codes: Tensor, text: str | None = None) -> dict[str, list[int]]:
        """codes [N, P, Q], no chunk of them where nothing is shown; without a text it is still to be said."""
        return to_llm(codes, self.vocabulary, [] if text is None else self.units.ids(text, self.most))

    def batch(self, codes: Sequence[Tensor], texts: Sequence[str] | None = None) -> PromptBatch:
        made = [self.of(clip, texts[i] if texts is not None else None) for i, clip in enumerate(codes)]
        lengths = [len(prompt["input_ids"]) for prompt in made]
        longest = max(lengths, default=0)
        said = [
            (i * longest + at - 1, label)
            for i, prompt in enumerate(made)
            for at, label in enumerate(prompt["labels"])
            if label >= 0
        ]
        places, targets = torch.tensor(said, dtype=torch.int64).view(-1, 2).unbind(1)
        rows = [prompt["input_ids"] + [0] * (longest - len(prompt["input_ids"])) for prompt in made]
        ids = torch.tensor(rows, dtype=torch.int64).view(len(made), longest)
        return PromptBatch(ids, torch.tensor(lengths, dtype=torch.int64), places, targets)


class SignRows(nn.Module):
    """What a vocabulary's ids are to the language model: a row each, and one of its part and level. Both begin at the
    spread of the model's own embedding. With the codebooks' vectors a code's row begins as its vector, along the axes
    in which a part's differ, through a map that is drawn, so that codes which mean alike begin alike."""

    book: Tensor  # [V] of an id; 0: no code's

    def __init__(
        self, vocabulary: Vocabulary, width: int, *, spread: float, vectors: CodeVectors | None, seed: int
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(len(vocabulary), width, generator=generator)
        books = torch.randn(1 + sum(vocabulary.levels), width, generator=generator)
        if vectors is not None:
            rows[len(SPECIALS) :] = mapped(vectors, width, generator)
        half = spread * 0.5**0.5  # of a sum of two
        self.rows = nn.Embedding.from_pretrained(rows * half, freeze=False)
        self.books = nn.Embedding.from_pretrained(books * half, freeze=False)
        of_code = torch.arange(len(books) - 1).repeat_interleave(vocabulary.codebook_size) + 1
        self.register_buffer("book", torch.cat((torch.zeros(len(SPECIALS), dtype=torch.int64), of_code)))

    def forward(self, ids: Tensor) -> Tensor:
        """ids from 0 on [..] -> [.., D]"""
        return self.rows(ids) + self.books(self.book[ids])


def mapped(vectors: CodeVectors, width: int, generator: torch.Generator) -> Tensor:
    """[codes, D] in the order of a vocabulary's ids, by one map for all parts; of each part and level the mean is 0 and
    the spread 1, since a part and level has a row of its own."""
    table = stretched(vectors.table)  # [P, Q, K, Z]
    table = table - table.mean(2, keepdim=True)
    table = table / table.square().mean((2, 3), keepdim=True).sqrt().clamp(min=1e-6)
    books = [table[p, level] for p, levels in enumerate(vectors.levels) for level in range(levels)]
    return torch.cat(books) @ torch.randn(vectors.dim, width, generator=generator) * vectors.dim**-0.5


class PrefixLM(nn.Module):
    def __init__(
        self, lm: LanguageModel, vocabulary: Vocabulary, *, vectors: CodeVectors | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        assert vocabulary.offset == lm.network.config.vocab_size, "sign ids come after the text's"
        self.lm = lm.network
        text = self.lm.get_input_embeddings().weight
        self.offset = vocabulary.offset
        spread = float(text.detach().std())
        self.signs = SignRows(vocabulary, text.shape[1], spread=spread, vectors=vectors, seed=seed)
        known = inspect.signature(self.lm.model.forward).parameters
        self.cache_name = "cache" if "cache" in known else "past_key_values"  # versions differ
        self.end = lm.units.end

    def embedded(self, ids: Tensor) -> Tensor:
        """[B, S] -> [B, S, D]"""
        sign = ids >= self.offset
        text = self.lm.get_input_embeddings()(ids.masked_fill(sign, 0))
        signs = self.signs((ids - self.offset).clamp(min=0))
        return torch.where(sign[..., None], signs, text)

    def forward(self, ids: Tensor, places: Tensor) -> Tensor:
        """[B, S], [U] -> [U, V]"""
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
