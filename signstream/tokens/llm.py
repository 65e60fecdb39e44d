"""What a language model reads of a clip: ids, labels, and of which kind and chunk each position is.

    offline(vocabulary, chunks, text)               <SIGN> signs </SIGN> <SEP> text; text: its ids
    live(vocabulary, chunks, words, after=after)    chunk by chunk, what can be said between them
    to_llm(codes, vocabulary, text)                 {"input_ids", "labels"} of the first, out of codes [N, P, Q]

    stream = LiveStream(vocabulary)                 the second as it comes: `live` makes what is trained on with it
    stream.hear(ids)                                a chunk; then the model is asked: <SEP> or <COMMIT>?
    stream.speak(), stream.say(ids), stream.commit()      if it is <SEP>
    stream.end(), stream.say(ids), stream.commit()        once signing has ended, without asking
    stream.written                                  so far; it only grows

chunks [N]: the ids of each; words [W]: the ids of each; after [W]: the chunk behind which it is said, N: the end.

Live is <SIGN>, the chunks, </SIGN>, <SEP>, what is left to say, <COMMIT>; behind a chunk with which something can be
said stand <SEP>, these words, <COMMIT>. labels[i] is what the model is to say before position i, -100 where nobody
asks: words, each <COMMIT>, and behind each chunk <SEP> or, where there is nothing to say, <COMMIT>, which is then not
written: the label stands at the first sign that follows. No sign is ever asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from signstream.errors import UserError
from signstream.tokens.vocabulary import Vocabulary

SINK, SIGN, WORD = range(3)  # the prompt's, which comes first; a chunk's; said
NOT_ASKED = -100


class LLMSequence(NamedTuple):
    """[S] each."""

    input_ids: list[int]
    labels: list[int]
    kind: list[int]  # SINK, SIGN or WORD
    chunk: list[int]  # the last that was heard, a sign's own; before the first: -1

    def add(self, ids: Sequence[int], labels: Sequence[int], *, kind: int, chunk: int) -> None:
        self.input_ids.extend(ids)
        self.labels.extend(labels)
        self.kind.extend([kind] * len(ids))
        self.chunk.extend([chunk] * len(ids))

    @classmethod
    def begun(cls, vocabulary: Vocabulary) -> LLMSequence:
        sequence = cls([], [], [], [])
        sequence.add([vocabulary.special("<SIGN>")], [NOT_ASKED], kind=SINK, chunk=-1)
        return sequence


def offline(vocabulary: Vocabulary, chunks: Sequence[Sequence[int]], text: Sequence[int]) -> LLMSequence:
    _check_text(vocabulary, text)
    sequence = LLMSequence.begun(vocabulary)
    last = len(chunks) - 1
    for t, ids in enumerate([*chunks, [vocabulary.special("</SIGN>")]]):
        sequence.add(ids, [NOT_ASKED] * len(ids), kind=SIGN, chunk=min(t, last))
    sequence.add([vocabulary.special("<SEP>")], [NOT_ASKED], kind=WORD, chunk=last)
    sequence.add(text, text, kind=WORD, chunk=last)
    return sequence


def live(
    vocabulary: Vocabulary, chunks: Sequence[Sequence[int]], words: Sequence[Sequence[int]], *, after: Sequence[int]
) -> LLMSequence:
    count = len(chunks)
    assert len(after) == len(words) and list(after) == sorted(after), "words are said in their order"
    assert all(0 <= chunk <= count for chunk in after), "a word is said behind a chunk, or at the end"
    due: list[list[int]] = [[] for _ in range(count + 1)]
    for word, chunk in zip(words, after):
        due[chunk] += word
    stream = LiveStream(vocabulary)
    for ids, said in zip(chunks, due):
        stream.hear(ids)
        if said:
            stream.speak()
            stream.say(said)
            stream.commit()
    stream.end()
    stream.say(due[count])
    stream.commit()
    return stream.written


class LiveStream:
    """Each call adds what it says, and changes nothing that stands."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.written = LLMSequence.begun(vocabulary)
        self.chunk = -1
        self.asked = False  # whether to speak
        self.speaking = False
        self.ended = False

    def hear(self, ids: Sequence[int]) -> None:
        assert ids, "of a chunk that is written live something is written"
        self._sign(ids, chunk=self.chunk + 1)
        self.asked = True

    def speak(self) -> None:
        assert self.asked, "the model speaks once behind a chunk"
        self._mark("<SEP>", asked=True)
        self.asked, self.speaking = False, True

    def say(self, ids: Sequence[int]) -> None:
        assert self.speaking, "<SEP> comes first"
        _check_text(self.vocabulary, ids)
        self.written.add(ids, ids, kind=WORD, chunk=self.chunk)

    def commit(self) -> None:
        assert self.speaking, "<SEP> comes first"
        self._mark("<COMMIT>", asked=True)
        self.speaking = False

    def end(self) -> None:
        self._sign([self.vocabulary.special("</SIGN>")], chunk=self.chunk)
        self._mark("<SEP>", asked=False)
        self.asked, self.speaking, self.ended = False, True, True

    def _sign(self, ids: Sequence[int], *, chunk: int) -> None:
        assert not self.speaking, "<COMMIT> comes first"
        assert not self.ended, "signing has ended"
        silent = self.vocabulary.special("<COMMIT>") if self.asked else NOT_ASKED
        self.written.add(ids, [silent, *[NOT_ASKED] * (len(ids) - 1)], kind=SIGN, chunk=chunk)
        self.chunk = chunk

    def _mark(self, mark: str, *, asked: bool) -> None:
        ids = [self.vocabulary.special(mark)]
        self.written.add(ids, ids if asked else [NOT_ASKED], kind=WORD, chunk=self.chunk)


def to_llm(codes: Tensor, vocabulary: Vocabulary, text: Sequence[int], *, rle: bool = True) -> dict[str, list[int]]:
    """What a language model is trained on where nothing is live."""
    sequence = offline(vocabulary, vocabulary.chunks(codes, rle), text)
    return {"input_ids": sequence.input_ids, "labels": sequence.labels}


def _check_text(vocabulary: Vocabulary, text: Sequence[int]) -> None:
    if any(0 <= i - vocabulary.offset < len(vocabulary) for i in text):
        why = "offset should be the size of the text's vocabulary"
        raise UserError(f"text_ids holds ids of sign tokens, which begin at {vocabulary.offset}: {why}")
