"""Files of tokens for tiny data sets: chunks that are drawn by the clip's name, so that no two clips have the same."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import torch

from signstream.config import load_config
from signstream.data.cache import open_cache
from signstream.inference.export_beside import write_vectors_beside
from signstream.tokens.codes import chosen_prefix, prefixes_of
from signstream.tokens.format import TokenSequence, write_line
from signstream.tokens.vectors import CodeVectors

PARTS, LEVELS, SIZE, DIM, CHUNK = ("F", "RH"), (1, 2), 32, 8, 10


def codes_of(name: str, chunks: int) -> torch.Tensor:
    """[N, 2, 2]; every third chunk says what the one before it says."""
    rng = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    codes = torch.randint(SIZE, (chunks, 2, 2), generator=rng)
    codes[2::3] = codes[1::3][: len(codes[2::3])]
    return chosen_prefix(prefixes_of(codes), torch.tensor(LEVELS).expand(chunks, 2))


def vectors(tokenizer: str = "one") -> CodeVectors:
    table = torch.randn(2, 2, SIZE, DIM, generator=torch.Generator().manual_seed(0))
    has_level = torch.arange(2) < torch.tensor(LEVELS)[:, None]
    return CodeVectors(PARTS, LEVELS, tokenizer, table * has_level[..., None, None])


def drawn_tokens(options: Sequence[str], tokenizer: str = "one") -> str:
    """Of the clips as a run with these options reads them, a file a split: what data.tokens is."""
    data = load_config(None, options).data
    cache = open_cache(data, quiet=True)
    folder = Path(data.root).parent / f"tokens_{tokenizer}_{data.max_frames}"
    folder.mkdir(exist_ok=True)
    head = {"fps": data.fps, "chunk_len": CHUNK, "parts": PARTS, "levels": LEVELS, "codebook_size": SIZE}
    for split, places in cache.splits.items():
        path, clips = folder / f"{split}.jsonl", [cache.clips[place] for place in places]
        if clips and not path.exists():
            made = [
                TokenSequence(
                    name=clip.name,
                    num_frames=clip.length,
                    codes=codes_of(clip.name, -(-clip.length // CHUNK)),
                    tokenizer=tokenizer,
                    **head,
                )
                for clip in clips
            ]
            path.write_text("".join(map(write_line, made)), encoding="utf-8")
            write_vectors_beside(path, vectors(tokenizer), None)
    return f"{folder}/{{split}}.jsonl"
