"""Where a text model (text_model.py) comes from: drawn small, published, or what a checkpoint keeps of either.

text = tiny_model(sentences, source="de_DE", target="de_DE", seed=0)          nothing is fetched
text = published_model("facebook/mbart-large-cc25", source=..., target=...)   a folder, or a name that was fetched
text = text_of(config.model, sentences, seed=0)                               either, as a config says
text = opened_model(text.plain())                                             the same; kept weights come after it
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from signstream.config.translation import TINY, SignToText
from signstream.errors import UserError, shown
from signstream.models.text_model import TextModel, transformers_package
from signstream.models.text_tokenizer import TextTokenizer, opened_tokenizer, published_tokenizer, trained_tokenizer
from signstream.published import Kind, pretrained, whole_files

MOST_PARAMETERS = 200_000_000  # of a tiny model
MBART = Kind("the text model", "text models", one="an mBART", opener="MBartForConditionalGeneration", types=("mbart",))


def text_of(config: SignToText, sentences: Iterable[str], *, seed: int, scale_inputs: bool = False) -> TextModel:
    """What a config names; of a tiny one the tokenizer is trained on `sentences`."""
    languages = {"source": config.source_language, "target": config.target_language}
    if config.text != TINY:
        return published_model(config.text, **languages, scale_inputs=scale_inputs)
    sizes = TinySizes(**asdict(config.tiny))
    return tiny_model(sentences, sizes, **languages, seed=seed, scale_inputs=scale_inputs)


@dataclass(frozen=True)
class TinySizes:
    """Of both encoder and decoder."""

    vocabulary: int = 1000  # tokens that are trained, at most
    width: int = 128
    layers: int = 2
    heads: int = 4
    expand: int = 4
    positions: int = 1024
    dropout: float = 0.1


def tiny_model(
    sentences: Iterable[str],
    sizes: TinySizes | None = None,
    *,
    source: str,
    target: str,
    seed: int = 0,
    scale_inputs: bool = False,
) -> TextModel:
    """With a tokenizer trained on these sentences, and weights drawn by the seed."""
    sizes = sizes or TinySizes()
    _check(sizes, sizes.vocabulary)
    tokenizer = trained_tokenizer(sentences, source=source, target=target, vocabulary=sizes.vocabulary)
    return _drawn(tokenizer, sizes, seed=seed, scale_inputs=scale_inputs)


def _drawn(tokenizer: TextTokenizer, sizes: TinySizes, *, seed: int, scale_inputs: bool) -> TextModel:
    """mBART's own spread of first weights, 0.02, is that of a width of 1,024: of a small width the decoder then hears
    next to nothing of what the encoder says, and learns the sentences alone (docs/LOG.md)."""
    _check(sizes, tokenizer.size)
    package = transformers_package()
    both = {"layers": sizes.layers, "attention_heads": sizes.heads, "ffn_dim": sizes.width * sizes.expand}
    config = package.MBartConfig(
        **{f"{side}_{what}": count for side in ("encoder", "decoder") for what, count in both.items()},
        **{"vocab_size": tokenizer.size, "d_model": sizes.width, "max_position_embeddings": sizes.positions},
        **{"dropout": sizes.dropout, "scale_embedding": True, "init_std": sizes.width**-0.5},
    )
    with torch.random.fork_rng(devices=[]):  # transformers draws from torch's own generator
        torch.default_generator.manual_seed(seed)
        mbart = package.MBartForConditionalGeneration(config)
    origin = {"kind": "tiny", "sizes": asdict(sizes), "seed": seed, "tokenizer": tokenizer.text()}
    return TextModel(mbart.eval(), tokenizer, origin=origin, scale_inputs=scale_inputs).eval()


def _check(sizes: TinySizes, tokens: int) -> None:
    """Sizes may come from a file."""
    for field in fields(sizes):
        value = getattr(sizes, field.name)
        if field.name == "dropout":
            good = type(value) in (int, float) and 0 <= value < 1
        else:
            good = type(value) is int and 1 <= value <= 100_000
        if not good:
            raise UserError(f"the tiny text model's {field.name} is {shown(value)}: no such size")
    if sizes.width % sizes.heads:
        raise UserError(f"the tiny text model's width {sizes.width} is no multiple of its {sizes.heads} heads")
    count = (tokens + 2 * sizes.positions + sizes.layers * (12 + 4 * sizes.expand) * sizes.width) * sizes.width
    if count > MOST_PARAMETERS or sizes.layers > 100:
        raise UserError(f"{sizes.layers} layers and {count:,} weights are no tiny text model: name a published one")


def published_model(name: str, *, source: str, target: str, scale_inputs: bool = False) -> TextModel:
    """A folder, or the name of what was fetched to this machine before. Nothing is fetched here, no code of a file is
    run, and weights are read from safetensors alone, since the older format is a pickle."""
    file = whole_files(name, MBART, "config.json", "tokenizer.json")["tokenizer.json"]
    tokenizer = published_tokenizer(file, source=source, target=target)
    if "af_ZA" in tokenizer.languages:
        raise UserError(
            f"the text model {shown(name)} is an mBART-50, which writes the language before a sentence: name an mBART "
            "that writes it after, as facebook/mbart-large-cc25"
        )
    mbart = pretrained(name, MBART)
    origin = {"kind": "published", "name": name}
    return TextModel(mbart.eval(), tokenizer, origin=origin, scale_inputs=scale_inputs).eval()


def opened_model(plain: Any) -> TextModel:
    """From plain(), which may come from anybody's file."""
    if not isinstance(plain, dict) or plain.get("kind") not in ("tiny", "published"):
        raise UserError(f"no text model that this version knows: {shown(plain)}")
    wanted = {"source": str, "target": str, "scale_inputs": bool}
    wanted |= {"name": str} if plain["kind"] == "published" else {"sizes": dict, "seed": int, "tokenizer": str}
    for key, kind in wanted.items():
        if type(plain.get(key)) is not kind:
            raise UserError(f"the kept text model's {key} is {shown(plain.get(key))}: a {kind.__name__} is expected")
    languages = {"source": plain["source"], "target": plain["target"]}
    if plain["kind"] == "published":
        return published_model(plain["name"], **languages, scale_inputs=plain["scale_inputs"])
    if set(plain["sizes"]) != {field.name for field in fields(TinySizes)}:
        raise UserError(f"the kept text model's sizes are not those that this version knows: {shown(plain['sizes'])}")
    if not 0 <= plain["seed"] < 2**63:
        raise UserError(f"the kept text model's seed is {shown(plain['seed'])}: 0 to 2^63 - 1 is expected")
    tokenizer = opened_tokenizer(plain["tokenizer"], **languages)
    return _drawn(tokenizer, TinySizes(**plain["sizes"]), seed=plain["seed"], scale_inputs=plain["scale_inputs"])
