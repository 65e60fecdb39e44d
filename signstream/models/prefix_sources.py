"""Where a language model that signs are told to comes from: drawn small, published, or what a checkpoint keeps of
either; and its units, which sentences are written in.

lm = lm_of(config.model, sentences, seed=0)    tiny: a Qwen2, its tokenizer trained on them; else a published one
lm = opened_lm(lm.origin)                      the same again; kept weights come after it
lm.units.ids("a sentence", most=64)            its units, and the end
lm.units.text(ids)                             back, up to the first end
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

import torch

from signstream.config import schema
from signstream.config.prefix_lm import PrefixModel, TinyLM
from signstream.config.translation import TINY
from signstream.errors import UserError, first_line, shown
from signstream.models.text_tokenizer import END, TextTokenizer, opened_tokenizer, tidy, trained_tokenizer
from signstream.published import Kind, pretrained, transformers_package, whole_files

CAUSAL = Kind(
    "the language model",
    "language models",
    one="a causal language model of the kinds qwen2, qwen3 or llama",
    opener="AutoModelForCausalLM",
    types=("qwen2", "qwen3", "llama"),  # built alike: .model reads vectors, .lm_head says units
)


class Units(Protocol):
    end: int

    def ids(self, sentence: str, most: int | None = None) -> list[int]:
        """With the end; `most`: so many at most, tokens beyond are cut."""

    def text(self, ids: Sequence[int]) -> str:
        """Up to the first end."""


class LanguageModel(NamedTuple):
    network: Any  # transformers' own, in float32
    units: Units
    origin: dict[str, Any]  # plain values that opened_lm makes it of; weights are not among them


class TrainedUnits:
    """Of a tokenizer that was trained here."""

    end = END

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer

    def ids(self, sentence: str, most: int | None = None) -> list[int]:
        (row,) = self.tokenizer.encode([sentence], most=None if most is None else most + 1).ids.tolist()
        return row[:-1]  # without the language, which is mBART's alone

    def text(self, ids: Sequence[int]) -> str:
        (text,) = self.tokenizer.texts([list(ids)])
        return text


class PublishedUnits:
    """Of a tokenizer.json, which the package reads and which runs nothing."""

    def __init__(self, file: str, end: int) -> None:
        try:
            import tokenizers
        except ImportError:
            raise UserError("language models need the package tokenizers (pip install tokenizers)") from None
        try:
            self.inner = tokenizers.Tokenizer.from_file(file)
        except Exception as error:  # the package raises nothing more special
            raise UserError(f"{file} is no tokenizer: {first_line(error)}") from None
        self.inner.no_padding()
        self.inner.no_truncation()
        self.inner.encode_special_tokens = True  # as the text that they are
        self.size = max(self.inner.get_vocab(with_added_tokens=True).values()) + 1
        self.end = end

    def ids(self, sentence: str, most: int | None = None) -> list[int]:
        row = self.inner.encode(tidy(sentence), add_special_tokens=False).ids
        return [*(row if most is None else row[: most - 1]), self.end]

    def text(self, ids: Sequence[int]) -> str:
        said = list(ids[: ids.index(self.end)] if self.end in ids else ids)
        return " ".join(self.inner.decode(said, skip_special_tokens=True).split())


def lm_of(config: PrefixModel, sentences: Iterable[str], *, seed: int) -> LanguageModel:
    """What a config names; of a tiny one the tokenizer is trained on `sentences`."""
    if config.lm != TINY:
        return published_lm(config.lm)
    language, sizes = config.target_language, config.tiny
    tokenizer = trained_tokenizer(sentences, source=language, target=language, vocabulary=sizes.vocabulary)
    return _drawn(tokenizer, sizes, seed)


def _drawn(tokenizer: TextTokenizer, sizes: TinyLM, seed: int) -> LanguageModel:
    """Qwen2's own spread of first weights, 0.02, is that of a width of 2,500: of a small width next to nothing would
    come through (docs/LOG.md)."""
    package = transformers_package(CAUSAL.many)
    config = package.Qwen2Config(
        **{"vocab_size": tokenizer.size, "hidden_size": sizes.width, "intermediate_size": sizes.width * sizes.expand},
        **{"num_hidden_layers": sizes.layers, "max_position_embeddings": sizes.positions},
        **{"num_attention_heads": sizes.heads, "num_key_value_heads": sizes.heads},
        **{"attention_dropout": sizes.dropout, "initializer_range": sizes.width**-0.5, "tie_word_embeddings": True},
    )
    with torch.random.fork_rng(devices=[]):  # transformers draws from torch's own generator
        torch.default_generator.manual_seed(seed)
        network = package.Qwen2ForCausalLM(config)
    about = {"sizes": asdict(sizes), "seed": seed, "language": tokenizer.target, "tokenizer": tokenizer.text()}
    return LanguageModel(network, TrainedUnits(tokenizer), {"kind": "tiny", **about})


def published_lm(name: str) -> LanguageModel:
    """A folder, or the name of what was fetched to this machine before. Nothing is fetched here, no code of a file is
    run, and weights are read from safetensors alone."""
    file = whole_files(name, CAUSAL, "config.json", "tokenizer.json")["tokenizer.json"]
    network = pretrained(name, CAUSAL)
    ends = network.config.eos_token_id
    end = ends[0] if isinstance(ends, list) and ends else ends
    if type(end) is not int or not 0 <= end < network.config.vocab_size:
        raise UserError(f"the language model {shown(name)} does not say in config.json how a text ends (eos_token_id)")
    units = PublishedUnits(file, end)
    if units.size > network.config.vocab_size:
        raise UserError(f"{file} has {units.size} tokens and its model {network.config.vocab_size}: not a pair")
    return LanguageModel(network, units, {"kind": "published", "name": name})


def opened_lm(origin: Any) -> LanguageModel:
    """From an origin, which may come from anybody's file."""
    kind = origin.get("kind") if isinstance(origin, dict) else None
    if kind not in ("tiny", "published"):
        raise UserError(f"no language model that this version knows: {shown(origin)}")
    wanted: dict[str, type] = {"name": str}
    if kind == "tiny":
        wanted = {"sizes": dict, "seed": int, "language": str, "tokenizer": str}
    for key, kept in wanted.items():
        if type(origin.get(key)) is not kept:
            given = shown(origin.get(key))
            raise UserError(f"the kept language model's {key} is {given}: a {kept.__name__} is expected")
    if kind == "published":
        return published_lm(origin["name"])
    if not 0 <= origin["seed"] < 2**63:
        raise UserError(f"the kept language model's seed is {shown(origin['seed'])}: 0 to 2^63 - 1 is expected")
    language = origin["language"]
    tokenizer = opened_tokenizer(origin["tokenizer"], source=language, target=language)
    return _drawn(tokenizer, schema.build(TinyLM, origin["sizes"]), origin["seed"])
