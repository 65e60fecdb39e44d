"""What a language model that speaks while signing goes on is trained on: a clip's chunks, and what can be said behind
each of them, when its words may be said (data/live_targets.py).

    line_of(targets, tokens, clip, vocabulary=vocabulary, rle=True, text_ids=text_ids) -> one JSON object

    {"video_name": ..., "by": "segments", "input_ids", "labels", "kind", "chunk"}     as tokens/llm.py has them; or,
    {"video_name": ..., "by": "segments", "chunks", "words", "after"}                 where text stays text
"""

from __future__ import annotations

from typing import Any

from signstream.data.earliest import words_in
from signstream.data.live_targets import Targets, TextIds, ids_of_words
from signstream.io.cache_index import CachedClip
from signstream.tokens.format import TokenSequence
from signstream.tokens.llm import live
from signstream.tokens.vocabulary import Vocabulary


def line_of(
    targets: Targets,
    tokens: TokenSequence,
    clip: CachedClip,
    *,
    vocabulary: Vocabulary,
    rle: bool,
    text_ids: TextIds | None,
) -> dict[str, Any]:
    chunks = vocabulary.chunks(tokens.codes, rle, longest=1)
    words = words_in(clip.text)
    by, after = targets.timed(clip, words, chunks=len(chunks), size=tokens.chunk_len)
    line = {"video_name": tokens.name, "by": by}
    if text_ids is None:
        return {**line, "chunks": chunks, "words": words, "after": after}
    return {**line, **live(vocabulary, chunks, ids_of_words(words, text_ids), after=after)._asdict()}
