"""What an export writes beside its tokens, each file whole or not there.

paths_beside(out)                                       all that may stand there
write_vectors_beside(out, vectors, vocabulary)          what each code stands for, and each id of a vocabulary
latents_text(latents) -> a field of a row               write_latents_beside(out, fields, vectors, chunks=..)
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from torch import Tensor

from signstream.io.latent_files import LatentWriter, Note, as_latents, clips_check, latents_beside
from signstream.io.vector_files import vectors_beside, write_id_vectors, write_vectors
from signstream.io.whole import write_whole
from signstream.tokens.vectors import CodeVectors
from signstream.tokens.vocabulary import Vocabulary


def llm_beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}.llm.jsonl")


def live_beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}.live.jsonl")


def added_tokens_beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}.added_tokens.json")


def added_vectors_beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}.added_vectors.npz")


def paths_beside(out: Path) -> list[Path]:
    places = (vectors_beside, latents_beside, llm_beside, live_beside, added_tokens_beside, added_vectors_beside)
    return [place(out) for place in places]


def write_vectors_beside(out: Path, vectors: CodeVectors, vocabulary: Vocabulary | None) -> None:
    write_whole(vectors_beside(out), lambda file: write_vectors(file, vectors))
    if vocabulary is None:
        return
    added = json.dumps(vocabulary.added_tokens(), indent=0) + "\n"
    write_whole(added_tokens_beside(out), lambda file: file.write(added.encode()))
    write_whole(added_vectors_beside(out), lambda file: write_id_vectors(file, vectors, vocabulary))


def latents_text(latents: Tensor) -> str:
    """latents [N, P, Z] as a row of a part file holds them."""
    return b64encode(as_latents(latents.numpy()).tobytes()).decode()


def write_latents_beside(
    out: Path, fields: Iterable[bytes], vectors: CodeVectors, *, chunks: Mapping[str, int]
) -> None:
    """fields: what latents_text made of each clip; chunks {name: N}, in the same order."""
    shape = (sum(chunks.values()), len(vectors.parts), vectors.dim)
    note = Note(vectors.tokenizer, vectors.parts, clips_check(list(chunks), list(chunks.values())))

    def write(file: IO[bytes]) -> None:
        put = LatentWriter(file, shape)
        for field in fields:
            put(b64decode(field))
        put.finish(note)

    write_whole(latents_beside(out), write)
