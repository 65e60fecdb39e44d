"""Sentences as the ids that an mBART reads and writes, and back.

    B sentences   U units of a sentence: its tokens, </s>, its language

    tokenizer = trained_tokenizer(sentences, source="de_DE", target="de_DE", vocabulary=1000)
    tokenizer.encode(sentences)          Encoded(ids [B, U] int64, padded with 1; mask [B, U] bool; cut)
    tokenizer.labels(sentences)          the same in the target language, padded with -100
    tokenizer.texts(ids)                 [B, U] or a list of lists -> B sentences
    tokenizer.words(row, apart=False)    one of them as its words, each with the places of its units
    opened_tokenizer(tokenizer.text(), source=..., target=...)     the same tokenizer, from what a checkpoint keeps

A trained tokenizer is a BPE of the package tokenizers: of equal sentences, in any order, its bytes are equal, which its
unigrams do not promise. Spaces are tidied and characters composed (NFC); nothing is lower-cased. A sentence is text:
where it spells a special token, it gets that spelling's pieces and not the token. Of a kept tokenizer only vocabulary
and merges are read, and the rest is built as in training, so that a file can bring no rule of its own.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from signstream.errors import UserError, first_line, shown

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3, as mBART's
BEGIN, PAD, END, UNKNOWN = range(4)
IGNORED = -100  # labels that no loss counts
MOST_KEPT = 8 << 20  # characters of a kept tokenizer
MOST_TOKENS = 100_000
LANGUAGE = re.compile("[a-z]{2,3}_[A-Z]{2}")
BLANK = "\u2581"  # what a piece begins with that begins a word
HALF = re.compile("[\ud800-\udfff]")


class Encoded(NamedTuple):
    ids: Tensor  # [B, U] int64
    mask: Tensor  # [B, U] bool, False in the padding
    cut: int  # sentences that lost tokens, since they had more than `most`


class Word(NamedTuple):
    text: str
    places: tuple[int, ...]  # of its units in their row


class TextTokenizer:
    """Over a tokenizers.Tokenizer, trained here or a published mBART's."""

    def __init__(self, inner: Any, *, source: str, target: str) -> None:
        self.source, self.target = source, target
        vocabulary = inner.get_vocab(with_added_tokens=True)
        for place, token in enumerate(SPECIAL):
            if vocabulary.get(token) != place:
                raise UserError(f"no mBART's tokenizer: {token} is {shown(vocabulary.get(token))}, not {place}")
        self.languages = {name: place for name, place in vocabulary.items() if LANGUAGE.fullmatch(name)}
        for language in (source, target):
            if language not in self.languages:
                known = ", ".join(sorted(self.languages))
                raise UserError(f"the tokenizer has no language {shown(language)}; it has {known or 'none'}")
        self.size = max(vocabulary.values()) + 1
        inner.no_padding()
        inner.no_truncation()
        inner.encode_special_tokens = True  # as the text that they are
        self.inner = inner

    @property
    def target_id(self) -> int:
        return self.languages[self.target]

    def encode(self, sentences: Sequence[str], *, most: int | None = None) -> Encoded:
        """`most`: units of a sentence, </s> and language included; tokens beyond are cut, and the sentence counted."""
        return self._encoded(sentences, self.languages[self.source], most)

    def labels(self, sentences: Sequence[str], *, most: int | None = None) -> Encoded:
        encoded = self._encoded(sentences, self.target_id, most)
        return encoded._replace(ids=encoded.ids.masked_fill(~encoded.mask, IGNORED))

    def _encoded(self, sentences: Sequence[str], language: int, most: int | None) -> Encoded:
        if most is not None and most < 3:
            raise UserError(f"a sentence of at most {most} units has no room for a token, </s> and its language")
        rows = [self.inner.encode(tidy(sentence), add_special_tokens=False).ids for sentence in sentences]
        kept = rows if most is None else [row[: most - 2] for row in rows]
        units = max((len(row) + 2 for row in kept), default=0)
        ids = torch.full((len(rows), units), PAD)
        mask = torch.zeros(len(rows), units, dtype=torch.bool)
        for place, row in enumerate(kept):
            ids[place, : len(row) + 2] = torch.tensor([*row, END, language])
            mask[place, : len(row) + 2] = True
        return Encoded(ids, mask, sum(len(row) > len(part) for row, part in zip(rows, kept)))

    def texts(self, ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """Up to a row's first </s>, without special tokens, whatever else stands in it."""
        rows = ids.tolist() if isinstance(ids, Tensor) else ids
        return [self._text(row) for row in rows]

    def _text(self, row: Sequence[int]) -> str:
        row = row[: row.index(END)] if END in row else row
        said = [unit for unit in row if self._is_text(unit)]
        return str(self.inner.decode(said, skip_special_tokens=True)).strip()

    def _is_text(self, unit: int) -> bool:
        return len(SPECIAL) <= unit < self.size and unit not in self.languages.values()

    def words(self, row: Sequence[int], *, apart: bool) -> list[Word]:
        """Of one row. `apart`: each unit for itself, for languages that write no blanks."""
        groups: list[list[int]] = []
        for place, unit in enumerate(row[: row.index(END)] if END in row else row):
            if not self._is_text(unit):
                continue
            begins = apart or str(self.inner.id_to_token(unit)).startswith(BLANK)
            if groups and not (begins and self._text([row[i] for i in groups[-1]])):
                groups[-1].append(place)
            else:
                groups.append([place])
        words = [Word(self._text([row[i] for i in group]), tuple(group)) for group in groups]
        return [word for word in words if word.text]

    def text(self) -> str:
        """What a checkpoint keeps: JSON."""
        return str(self.inner.to_str())


def trained_tokenizer(sentences: Iterable[str], *, source: str, target: str, vocabulary: int = 1000) -> TextTokenizer:
    """At most `vocabulary` tokens, unless the sentences have more characters: each of these is a token."""
    lines = [tidy(sentence) for sentence in sentences]
    if not any(lines):
        raise UserError("a tokenizer is trained on sentences: here are none with a word in them")
    languages = list(dict.fromkeys((source, target)))
    for language in languages:
        if not LANGUAGE.fullmatch(language):
            raise UserError(f"the language {shown(language)} is not written as mBART's are, for example de_DE or zh_CN")
    least = len(SPECIAL) + len(languages)
    if not least < vocabulary <= MOST_TOKENS:
        raise UserError(f"a vocabulary of {shown(vocabulary)} tokens: {least + 1} to {MOST_TOKENS} are possible")
    package = _tokenizers()
    inner = _bare(package.models.BPE(unk_token=SPECIAL[UNKNOWN]))
    trainer = package.trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[*SPECIAL, *languages], show_progress=False
    )
    inner.train_from_iterator(lines, trainer)
    return TextTokenizer(inner, source=source, target=target)


def opened_tokenizer(text: Any, *, source: str, target: str) -> TextTokenizer:
    """One that trained_tokenizer made, from its text()."""
    vocabulary, merges = _kept(text)
    try:
        inner = _bare(_tokenizers().models.BPE(vocab=vocabulary, merges=merges, unk_token=SPECIAL[UNKNOWN]))
        languages = sorted(filter(LANGUAGE.fullmatch, vocabulary), key=vocabulary.__getitem__)
        inner.add_special_tokens([*SPECIAL, *languages])
    except UserError:
        raise
    except Exception as error:  # the package raises nothing more special
        raise UserError(f"the kept tokenizer cannot be opened: {first_line(error)}") from None
    return TextTokenizer(inner, source=source, target=target)


def _kept(text: Any) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges, of the right types."""
    if not isinstance(text, str) or len(text) > MOST_KEPT:
        what = f"{len(text)} characters" if isinstance(text, str) else shown(text)
        raise UserError(f"the kept tokenizer is {what}: a JSON text of at most {MOST_KEPT} characters is expected")
    try:
        model = json.loads(text)["model"]
        kind, vocabulary, merges = model["type"], model["vocab"], model["merges"]
    except (ValueError, RecursionError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"the kept tokenizer is not one of ours: {first_line(error)}") from None
    if kind != "BPE" or not isinstance(vocabulary, dict) or not isinstance(merges, list):
        raise UserError(f"the kept tokenizer is {shown(kind)}: a BPE with its vocab and merges is expected")
    ids = list(vocabulary.values())
    if len(ids) > MOST_TOKENS or any(type(i) is not int for i in ids) or set(ids) != set(range(len(ids))):
        raise UserError(f"the kept tokenizer's ids are not 0 to {len(ids) - 1}, or more than {MOST_TOKENS}")
    if any(not isinstance(m, list) or len(m) != 2 or any(not isinstance(part, str) for part in m) for m in merges):
        raise UserError("the kept tokenizer's merges are not all pairs of texts")
    return vocabulary, [(left, right) for left, right in merges]


def tidy(sentence: str) -> str:
    """Composed characters, one space between words, on one line."""
    if HALF.search(sentence):
        raise UserError(f"the sentence {shown(sentence)} holds half a character")
    return " ".join(unicodedata.normalize("NFC", sentence).split())


def _bare(model: Any) -> Any:
    package = _tokenizers()
    inner = package.Tokenizer(model)
    inner.normalizer = package.normalizers.NFC()
    inner.pre_tokenizer = package.pre_tokenizers.Metaspace(prepend_scheme="always")
    inner.decoder = package.decoders.Metaspace(prepend_scheme="always")
    return inner


def published_tokenizer(file: str, *, source: str, target: str) -> TextTokenizer:
    """From a tokenizer.json, which the package reads and which runs nothing."""
    package = _tokenizers()
    try:
        inner = package.Tokenizer.from_file(file)
    except Exception as error:  # the package raises nothing more special
        raise UserError(f"{file} is no tokenizer: {first_line(error)}") from None
    return TextTokenizer(inner, source=source, target=target)


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise UserError("text models need the package tokenizers (pip install tokenizers)") from None
    return tokenizers
