"""Tiny language models with signs as their prefix: runs that learn clips by heart, and a network whose every number
counts."""

import copy
from pathlib import Path

import torch

from helpers import case_options
from sentence_clips import root_of
from signstream.config.prefix_lm import PrefixModel, TinyLM
from signstream.models.prefix_lm import PrefixLM, Prompts
from signstream.models.prefix_sources import lm_of
from signstream.tokens.vocabulary import Vocabulary
from token_files import LEVELS, PARTS, SIZE, codes_of, vectors

TEXTS = (
    "the sun shines in the north",
    "rain comes in the morning",
    "a strong wind blows at night",
    "in the south it stays dry",
)
HEART = ("train.epochs=60", "train.warmup_steps=5", "train.wd=0", "train.lr=1e-2", "train.lm_lr=1e-2")
WIDE = "model.tiny={vocabulary: 120, width: 32, layers: 2, heads: 2, positions: 512}"
SIZES = TinyLM(vocabulary=120, width=32, layers=2, heads=2, positions=512, dropout=0)
CLIPS = [codes_of(f"clip{i}", chunks) for i, chunks in enumerate((5, 9, 0, 2))]


def options(folder: Path, texts: list[str], *more: str) -> list[str]:
    """Of clips that say these, to train and to validate on; each has a chunk more than the one before."""
    names = {f"clip{i}": text for i, text in enumerate(texts)}
    frames = [42 + 10 * i for i in range(len(texts))]
    root = root_of(folder, names, frames=frames, splits={"train": list(names), "val": list(names)})
    given = ("decode.max_tokens=40", "train.sample_clips=16", *HEART, *more, WIDE, "model.tiny.dropout=0")
    return case_options(root, "prefix_lm", *given, plain=True)


def drawn_model(**how: str) -> PrefixLM:
    """Drawn so wide that what it says depends on everything; `how`: what else its config says."""
    config = PrefixModel(target_language="en_XX", tiny=SIZES, **how)
    made = lm_of(config, TEXTS, seed=3)
    vocabulary = Vocabulary(PARTS, LEVELS, SIZE, made.network.config.vocab_size)
    model = PrefixLM(made, vocabulary, vectors=vectors(), how=config).eval()
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.2 * torch.randn(weight.shape, generator=generator)
    model.prompts = Prompts(vocabulary, made.units, positions=config.positions)
    return model


def published_at(folder: Path, model: PrefixLM) -> Path:
    """Its language model as others publish one."""
    network = copy.deepcopy(model.lm)
    network.config.eos_token_id = model.end
    network.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(model.prompts.units.tokenizer.text(), encoding="utf-8")
    return folder


def said_step_by_step(model: PrefixLM, codes: torch.Tensor, most: int) -> list[int]:
    """By the whole prompt anew for each unit."""
    asked = model.prompts.batch([codes])
    ids, said = asked.ids, []
    while len(said) < most:
        unit = int(model(ids, torch.tensor([ids.shape[1] - 1])).argmax())
        if unit == model.end:
            break
        said.append(unit)
        cell = torch.full_like(ids[:, :1], -1)
        cell.view(-1)[0] = unit
        ids = torch.cat((ids, cell), 1)
    return said
