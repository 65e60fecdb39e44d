"""The tokens of a split into one file, a line a clip, over any number of ranks, interrupted or not.

    with open_session(...) as session: status = export(request, session)

Each rank encodes its share of the clips into a part file (part_files.py); the first puts them together, in the split's
order. A clip that fails is named with its reason, the rest is written, and the status is 1.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from signstream.config import load_config
from signstream.config.rvq import Config
from signstream.data.cache import open_cache
from signstream.data.datasets import open_data
from signstream.data.live_targets import Targets, TextIds
from signstream.data.transforms import varied
from signstream.errors import UserError
from signstream.inference.batches import groups
from signstream.inference.export_beside import (
    latents_text,
    live_beside,
    llm_beside,
    paths_beside,
    write_latents_beside,
    write_vectors_beside,
)
from signstream.inference.export_live import line_of
from signstream.inference.part_files import COUNTS, LATENTS, LINE, LIVE, LLM, PartFiles, RowPlace
from signstream.inference.session import Session, open_session
from signstream.inference.tokenizer import Encoded, Tokenizer
from signstream.io.cache_index import CachedClip
from signstream.io.pose_cache import PoseCache
from signstream.io.whole import write_whole
from signstream.text_files import open_regular
from signstream.tokens.format import FORMAT, Counts, TokenSequence, write_line, write_list
from signstream.tokens.llm import to_llm
from signstream.tokens.vocabulary import Vocabulary

FIRST_BYTES = 1 << 20  # of a file of tokens: enough to see what made it


class Form(NamedTuple):
    """What is written of a clip."""

    parts: tuple[str, ...]
    layout: str
    rle: bool
    latents: bool = False
    vocabulary: Vocabulary | None = None
    text_ids: TextIds | None = None
    targets: Targets | None = None

    def row(self, index: int, clip: Encoded, known: CachedClip) -> bytes:
        """One row of a part file: the clip's index in the cache, its counts, its line, its lines for a language model,
        whole and live, and its latents."""
        tokens = clip.tokens.only(self.parts)
        counts = json.dumps(tokens.counts(self.rle))
        line = write_line(tokens, self.layout, self.rle).rstrip("\n")
        keep = [p for p, tag in enumerate(clip.tokens.parts) if tag in self.parts]
        latents = "" if clip.latents is None else latents_text(clip.latents[:, keep])
        lines = (line, self.llm(tokens, known.text), self.live(tokens, known))
        row = "\t".join((str(index), counts, *lines, latents)) + "\n"
        # JSON holds no tab; half a character becomes \ud800, as JSON writes it
        return row.encode("utf-8", "backslashreplace")

    def llm(self, tokens: TokenSequence, text: str) -> str:
        if self.vocabulary is None:
            return ""
        text_ids = self.text_ids(text) if self.text_ids else []
        line = {"video_name": tokens.name, **to_llm(tokens.codes, self.vocabulary, text_ids, rle=self.rle)}
        if self.text_ids is None:
            line["text"] = text
        return json.dumps(line, ensure_ascii=False)

    def live(self, tokens: TokenSequence, known: CachedClip) -> str:
        if self.vocabulary is None or self.targets is None:
            return ""
        line = line_of(self.targets, tokens, known, vocabulary=self.vocabulary, rle=self.rle, text_ids=self.text_ids)
        return json.dumps(line, ensure_ascii=False)


def export_tokens(args: Namespace) -> int:
    """What the door was asked for: the options of inference/export_tokens.py."""
    if args.num_samples is not None and args.num_samples < 1:
        raise UserError(f"--num-samples is {args.num_samples}: at least 1 is expected")
    if args.augment is not None and args.augment < 0:
        raise UserError(f"--augment is {args.augment}: a seed of 0 or more is expected")
    check_live(args)
    if args.out.exists() and not args.out.is_file():
        raise UserError(f"--out {args.out} is {'a folder: name a file in it' if args.out.is_dir() else 'no file'}")
    rle = [] if args.rle is None else [f"export.enable_rle={str(args.rle).lower()}"]
    checkpoint = args.checkpoint
    if checkpoint is None:
        config = load_config(args.config, args.overrides, kind=Config)
        checkpoint = Path(config.save_path, config.experiment_name)
    with open_session(checkpoint, args.config, [*args.overrides, *rle]) as session:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        return export(args, session)


def check_live(args: Namespace) -> None:
    for option, value in (("--signs", args.signs), ("--wait", args.wait)):
        if value is not None and not args.live:
            raise UserError(f"{option} says when words may be said, which --live writes")
    if args.wait is not None and args.wait < 0:
        raise UserError(f"--wait is {args.wait}: chunks, 0 or more, are expected")
    if args.live and args.augment is not None:
        raise UserError("--live needs to know where signs are, which --augment moves: leave one out")
    if args.live and not (args.to_llm or args.tokenizer or args.text_vocab_size):
        raise UserError("--live is what --to-llm writes besides: add --to-llm")


def export(args: Namespace, session: Session) -> int:
    """Every rank makes the same calls; the exit status."""
    config, ranks = session.config, session.ranks
    form = form_of(args, session.tokenizer, config.export.enable_rle)
    # what would fail for every clip fails here
    session.tokenizer.encode(np.zeros((1, session.tokenizer.skeleton.num_joints, 3), np.float32))
    cache = open_cache(config.data, quiet=not ranks.is_main)
    clips = cache.split(args.split)[: args.num_samples]
    if args.live:
        earliest = Targets.of(cache, config.data, args.signs, source=open_data(config.data))
        form = form._replace(targets=earliest.later(args.wait or 0))
    made_by = header(args, form, session, data=ranks.broadcast(cache.path.name))
    parts = PartFiles(args.out, made_by, paths_beside(args.out))
    done = ranks.from_main(lambda: set(parts.finished()))
    began, todo = time.perf_counter(), [i for i in clips if i not in done]
    if ranks.is_main:
        about = f"{len(clips)} clips of {args.split}, {len(clips) - len(todo)} of them done before"
        announce(args.out, f"data: {cache.summary()}", f"tokenizer {session.tokenizer.digest}: {about}")
    failed = left_out(cache, args.split, clips) if args.num_samples is None else {}
    with parts.append(ranks.rank) as write:
        failed |= encode_share(session, cache, todo, write=write, form=form, augment=args.augment)
    for others in ranks.collect(failed):
        failed |= others

    def finish() -> None:
        rows = parts.finished()
        names = {i: cache.clips[i].name for i in clips}
        if lost := [name for i, name in names.items() if i not in rows and name not in failed]:
            where = f"{len(lost)} clips are in no part file beside {args.out}, such as {lost[0]!r}"
            raise UserError(f"{where}: all ranks must write to one file system")
        for name, reason in failed.items():
            print(f"failed: {name}: {reason}", file=sys.stderr)
        merged = {names[i]: rows[i] for i in clips if i in rows}
        summary = merge(args, form, parts, rows=merged, tokenizer=session.tokenizer)
        rate = sum(i in rows for i in todo) / (time.perf_counter() - began)
        speed = f"{rate:.1f} clips/s over {ranks.world} process"
        print(f"{summary}; {len(failed)} clips failed; {speed}{'es' * (ranks.world > 1)}", flush=True)

    ranks.from_main(finish)
    return 1 if failed else 0


def announce(out: Path, *lines: str) -> None:
    print(*lines, sep="\n", flush=True)
    if out.exists():
        print(f"{out} {there(out)}, which this one replaces when it is whole", flush=True)


def left_out(cache: PoseCache, split: str, clips: Sequence[int]) -> dict[str, str]:
    """{name: reason} of the split's clips that the cache has not."""
    names = {cache.clips[i].name for i in clips}
    lines = [line for line in cache.skipped if line.split == split and line.name not in names]
    return {line.name: f"{line.reason} (the cache left it out)" for line in lines}


def encode_share(
    session: Session,
    cache: PoseCache,
    todo: Sequence[int],
    *,
    write: Callable[[bytes], object],
    form: Form,
    augment: int | None = None,
) -> dict[str, str]:
    """This rank's clips of those to do, each written as a row; {name: reason} of those that failed. `augment`: what
    changes the clips is drawn from it."""
    ranks = session.ranks
    share = todo[ranks.rank :: ranks.world]
    failed: dict[str, str] = {}
    with tqdm(total=len(share), desc="export", unit="clip", disable=None if ranks.is_main else True) as bar:
        for group in groups(cache, share):
            clips = {i: cache.frames(i) for i in group}
            if augment is not None:
                clips = {i: changed(frames, session, (augment, i)) for i, frames in clips.items()}
            for i, clip in encode(session.tokenizer, cache, clips, latents=form.latents, failed=failed):
                write(form.row(i, clip, cache.clips[i]))
            bar.update(len(group))
    return failed


def changed(frames: np.ndarray, session: Session, seed: Sequence[int]) -> np.ndarray:
    return varied(torch.from_numpy(frames.copy()), session.config.data, session.tokenizer.skeleton, seed=seed).numpy()


def encode(
    tokenizer: Tokenizer, cache: PoseCache, clips: dict[int, np.ndarray], *, latents: bool, failed: dict[str, str]
) -> list[tuple[int, Encoded]]:
    """The tokens of the clips that can be encoded, {i: frames}, with their latents if need be; `failed` gets the
    others."""
    names, frames = [cache.clips[i].name for i in clips], list(clips.values())
    try:
        if latents:
            return list(zip(clips, tokenizer.encode_both(frames, names)))
        return [(i, Encoded(tokens, None)) for i, tokens in zip(clips, tokenizer.encode_prepared(frames, names))]
    except ValueError as error:
        if len(clips) > 1:
            each = [encode(tokenizer, cache, {i: clips[i]}, latents=latents, failed=failed) for i in clips]
            return [pair for pairs in each for pair in pairs]
        failed[names[0]] = str(error)
        return []


def form_of(args: Namespace, tokenizer: Tokenizer, rle: bool) -> Form:
    wanted = args.body_parts or tokenizer.parts
    if unknown := set(wanted).difference(tokenizer.parts):
        known = " ".join(tokenizer.parts)
        raise UserError(f"--body-parts: {sorted(unknown)[0]!r} is none of {known}; key.path=value stands before it")
    parts = {tag: levels for tag, levels in zip(tokenizer.parts, tokenizer.levels) if tag in wanted}
    form = Form(tuple(parts), args.layout, rle, args.latents)
    if not (args.to_llm or args.tokenizer or args.text_vocab_size):
        return form
    text = open_text_tokenizer(args.tokenizer) if args.tokenizer else None
    smallest = 1 if text is None else len(text)
    size = smallest if text and args.text_vocab_size is None else args.text_vocab_size or 0
    if size < smallest:
        needs = f"--text-vocab-size N, the number of ids that text has, of at least {smallest}"
        raise UserError(f"--to-llm needs {needs}, or --tokenizer PATH alone")
    vocabulary = replace(tokenizer.vocabulary, parts=form.parts, levels=tuple(parts.values()), offset=size)
    form = form._replace(vocabulary=vocabulary)
    if text is not None:
        form = form._replace(text_ids=lambda words: list(text(words, add_special_tokens=False)["input_ids"]))
    return form


def open_text_tokenizer(path: str) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise UserError(
            "--tokenizer needs the package transformers (pip install transformers); "
            "without it, --text-vocab-size N leaves the text as text"
        ) from None
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise UserError(f"--tokenizer {path}: {str(error).strip().splitlines()[0]}") from None


def there(out: Path) -> str:
    """What stands under the output's name."""
    with open_regular(out) as file:
        made = re.search(rb'"tokenizer": "([0-9a-f]{16})"', file.read(FIRST_BYTES))
    return f"is an export of the tokenizer {made[1].decode()}" if made else "is another file"


def header(args: Namespace, form: Form, session: Session, *, data: str) -> dict[str, Any]:
    """All that decides the bytes of a clip's row."""
    tokenizer = session.tokenizer
    return {
        "format": FORMAT,
        "tokenizer": tokenizer.digest,
        "codes_per_chunk": tokenizer.codes_per_chunk,
        "hold": tokenizer.hold,
        "parts": form.parts,
        "layout": form.layout,
        "rle": form.rle,
        "llm": [args.tokenizer, form.vocabulary.offset] if form.vocabulary else None,
        "live": form.targets.check if form.targets else None,
        "latents": form.latents,
        "augment": args.augment,
        "device": session.ranks.device.type,
        "data": data,
    }


def merge(args: Namespace, form: Form, parts: PartFiles, *, rows: dict[str, RowPlace], tokenizer: Tokenizer) -> str:
    """Part files -> the outputs, each whole or not there, the tokens last; what they hold, in a line. rows {name: where
    its row is}."""
    if not rows:
        raise UserError(f"no clip of {args.split} could be exported")
    out, places = args.out, list(rows.values())
    counts = [Counts.of(json.loads(line)) for line in parts.read(places, COUNTS)]
    vectors = tokenizer.code_vectors.only(form.parts)
    write_vectors_beside(out, vectors, form.vocabulary)
    if form.vocabulary is not None:
        write_whole(llm_beside(out), lambda file: file.writelines(parts.read(places, LLM)))
    if form.targets is not None:
        write_whole(live_beside(out), lambda file: file.writelines(parts.read(places, LIVE)))
    if form.latents:
        chunks = {name: count.chunks for name, count in zip(rows, counts)}
        write_latents_beside(out, parts.read(places, LATENTS), vectors, chunks=chunks)
    if args.format == "json":
        text = (line.decode() for line in parts.read(places, LINE))
        write_whole(out, lambda file: file.write(write_list(text).encode()))
    else:
        write_whole(out, lambda file: file.writelines(parts.read(places, LINE)))
    total = Counts.of(map(sum, zip(*counts)))
    by = Counter(json.loads(line)["by"] for line in parts.read(places, LIVE)) if form.targets else {}
    known = "; live by " + ", ".join(f"{name} {count}" for name, count in by.items()) if by else ""
    parts.remove()
    rate = f"{total.codes / total.chunks:.2f} codes and {total.symbols / total.chunks:.2f} symbols a chunk"
    held = f"{total.held / total.part_chunks:.1%} of the part-chunks held, " if form.rle else ""
    bits = total.symbols * math.log2(vectors.codebook_size + 1) / total.seconds
    return f"{out}: {len(rows)} clips, {total.chunks} chunks, {rate}, {held}{bits:.0f} bits/s{known}"
