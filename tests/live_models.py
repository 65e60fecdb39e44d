"""Tiny language models that speak while they watch: drawn so wide that what they say depends on everything, or taught a
few clips by heart."""

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from signstream.config.prefix_lm import PrefixModel, TinyLM
from signstream.models.kv_window import Layout, Window
from signstream.models.live_lm import LiveLM
from signstream.models.live_text import Speaker
from signstream.models.policies import policy_of
from signstream.models.prefix_sources import LanguageModel, lm_of
from signstream.tasks.prefix_lm.restore import Kept, Restored
from signstream.tokens.llm import LLMSequence
from signstream.tokens.vocabulary import Vocabulary
from token_files import LEVELS, PARTS, SIZE, vectors

TEXTS = ("the sun shines in the north", "rain comes in the morning", "a strong wind blows at night", "it stays dry")
WINDOW = Window(sinks=1, chunks=4, entries=32, positions=256)  # words: 24
WIDER = Window(sinks=1, chunks=4, entries=80, positions=400)
SIZES = {"vocabulary": 120, "width": 32, "layers": 2, "heads": 2, "positions": 512, "dropout": 0}


def lm_for(texts: Sequence[str], **sizes: int) -> LanguageModel:
    return lm_of(PrefixModel(target_language="en_XX", tiny=TinyLM(**{**SIZES, **sizes})), texts, seed=3)


def restored(
    *, texts: Sequence[str] = TEXTS, window: Window = WINDOW, like: Vocabulary | None = None, spread: float = 0.2
) -> Restored:
    lm = lm_for(texts)
    offset = lm.network.config.vocab_size
    kind = (PARTS, LEVELS, SIZE) if like is None else (like.parts, like.levels, like.codebook_size)
    vocabulary = Vocabulary(*kind, offset)
    model = LiveLM(lm, vocabulary, window=window, vectors=vectors() if like is None else None).eval()
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.data += spread * torch.randn(weight.shape, generator=generator)
        weight.requires_grad_(False)
    return Restored(model, vocabulary, lm.units, Kept(vocabulary, "one", lm.origin))


def speaker(made: Restored, policy: str) -> Speaker:
    return Speaker(made.model, made.vocabulary, units=made.units, policy=policy_of(policy))


def chunks_of(vocabulary: Vocabulary, seed: int, count: int) -> list[list[int]]:
    """Of drawn codes that often hold."""
    draw = random.Random(seed)
    levels = vocabulary.levels
    codes = torch.full((count, len(levels), max(levels)), -1)
    for t in range(count):
        for p, depth in enumerate(levels):
            held = t > 0 and draw.random() < 0.5
            row = [draw.randrange(vocabulary.codebook_size) for _ in range(draw.randint(0, depth))]
            codes[t, p] = codes[t - 1, p] if held else torch.tensor(row + [-1] * (max(levels) - len(row)))
    return vocabulary.chunks(codes, longest=1)


def flat(words: Sequence[Sequence[int]]) -> list[int]:
    return [unit for word in words for unit in word]


def heard(model: LiveLM, written: LLMSequence) -> torch.Tensor:
    """Logits [S, V + 2] of a whole sequence in one pass."""
    layout = Layout(torch.tensor([written.kind]), torch.tensor([written.chunk]))
    positions = torch.arange(len(written.input_ids))
    return model.logits(model.hear(torch.tensor([written.input_ids]), layout, positions)[0])


def teach(model: LiveLM, sequences: Sequence[LLMSequence], steps: int) -> None:
    """By heart."""
    torch.manual_seed(0)
    model.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0)
    for _ in range(steps):
        losses = []
        for written in sequences:
            labels = torch.tensor(written.labels)
            asked = labels >= 0
            logits = heard(model, written)[:-1][asked[1:]]
            losses.append(F.cross_entropy(logits, model.said(labels[asked])))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    model.eval().requires_grad_(False)
