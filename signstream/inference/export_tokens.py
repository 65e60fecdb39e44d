"""Writes the tokens of a split, one JSON line a clip.

    python -m signstream.inference.export_tokens --checkpoint checkpoints/quickstart --split val --out exports/tokens.jsonl
    python -m signstream.inference.export_tokens --checkpoint PATH --num-samples 10 --format json --layout part --out exports/tokens.json
    python -m signstream.inference.export_tokens --checkpoint PATH --out exports/tokens.jsonl --to-llm --tokenizer DIR
    torchrun --nproc_per_node=4 -m signstream.inference.export_tokens --checkpoint PATH --split train --out exports/train.jsonl

Without --checkpoint: best.pt of the config's newest run. Without --config: the checkpoint's own, with key.path=value on top.
Finished clips wait in .<out>.rank<r>.part beside the output; the same command goes on with them, whatever the number of ranks.
--to-llm adds <out>.llm.jsonl, what a language model is trained on, and <out>.added_tokens.json. A clip that fails is named with its
reason, the rest is written, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from signstream import cli
from signstream.config import load_config
from signstream.errors import UserError
from signstream.inference.session import Session, open_session

if TYPE_CHECKING:
    from signstream.inference.tokenizer import Tokenizer
    from signstream.io.pose_cache import PoseCache
    from signstream.tokens.format import TokenSequence
    from signstream.tokens.vocabulary import Vocabulary

BATCH_FRAMES = 4096  # encoded at once


class Form(NamedTuple):
    """What is written of a clip."""

    parts: tuple[str, ...]
    layout: str
    rle: bool
    vocabulary: Vocabulary | None = None
    text_ids: Callable[[str], list[int]] | None = None

    def row(self, index: int, tokens: TokenSequence, text: str) -> bytes:
        """One row of a part file: the clip's index in the cache, its counts, its line, and its line for a language model."""
        from signstream.tokens.format import write_line

        tokens = narrow(tokens, self.parts)
        fields = (
            str(index),
            json.dumps(counts(tokens, self.rle)),
            write_line(tokens, self.layout, self.rle).rstrip("\n"),
            self.llm(tokens, text),
        )
        return ("\t".join(fields) + "\n").encode(
            "utf-8", "backslashreplace"
        )  # JSON holds no tab; half a character becomes \ud800, as JSON writes it

    def llm(self, tokens: TokenSequence, text: str) -> str:
        from signstream.tokens.vocabulary import to_llm

        if self.vocabulary is None:
            return ""
        ids = to_llm(tokens.codes, self.vocabulary, self.text_ids(text) if self.text_ids else [], self.rle)
        return json.dumps(
            {"video_name": tokens.name, **ids, **({} if self.text_ids else {"text": text})}, ensure_ascii=False
        )


def narrow(tokens: TokenSequence, parts: Sequence[str]) -> TokenSequence:
    """Only these parts of the tokens."""
    keep = [p for p, tag in enumerate(tokens.parts) if tag in parts]
    levels = tuple(tokens.levels[p] for p in keep)
    return replace(
        tokens, parts=tuple(tokens.parts[p] for p in keep), levels=levels, codes=tokens.codes[:, keep, : max(levels)]
    )


def counts(tokens: TokenSequence, rle: bool) -> list[float]:
    """Chunks, seconds, codes, symbols (a run is one), held part-chunks, part-chunks."""
    codes = tokens.codes
    held = codes[..., 0] >= 0  # [N, P]
    held[:1] = False
    held[1:] &= (codes[1:] == codes[:-1]).all(-1)
    begins = held.clone()
    begins[1:] &= ~held[:-1]
    sent = int((codes >= 0).sum())
    symbols = int((codes >= 0)[~held].sum() + begins.sum()) if rle else sent
    return [len(codes), tokens.num_frames / tokens.fps, sent, symbols, int(held.sum()), held.numel()]


class Parts:
    """The part files: a header that holds all that decides the bytes, then rows. `header` is compared, never read."""

    ROW = re.compile(rb"(\d+)\t([^\t]*)\t([^\t]*)\t([^\t]*)\n")

    def __init__(self, out: Path, header: dict[str, Any]) -> None:
        self.out, self.header = out, json.dumps(header).encode() + b"\n"

    def files(self) -> list[Path]:
        """Part files, and what a killed write of the output left."""
        name = re.compile(re.escape(f".{self.out.name}.") + r"(rank\d+|[0-9a-f]{8})\.part")
        return [path for path in self.out.parent.iterdir() if name.fullmatch(path.name)]

    def found(self) -> dict[int, tuple[Path, int]]:
        """Where the row of each finished clip begins. What another export wrote is removed, and a row that was cut."""
        places = {}
        for path in self.files():
            with path.open("r+b") as file:
                if file.readline() != self.header:
                    path.unlink()
                    continue
                while row := file.readline():
                    start, whole = file.tell() - len(row), self.ROW.fullmatch(row)
                    if not whole:
                        file.truncate(start)
                        break
                    places[int(whole[1])] = (path, start)
        return places

    def append(self, rank: int) -> Callable[[bytes], object]:
        file = self.out.with_name(f".{self.out.name}.rank{rank}.part").open("ab", buffering=0)  # a row is one write
        if file.tell() == 0:
            file.write(self.header)
        return file.write

    def read(self, places: Sequence[tuple[Path, int]], field: int) -> Iterator[bytes]:
        with ExitStack() as stack:
            files = {path: stack.enter_context(path.open("rb")) for path in {path for path, _ in places}}
            for path, start in places:
                files[path].seek(start)
                yield self.ROW.fullmatch(files[path].readline())[field] + b"\n"


def groups(cache: PoseCache, clips: Sequence[int]) -> Iterator[list[int]]:
    """The clips in their order, about BATCH_FRAMES at a time."""
    group, size = [], 0
    for i in clips:
        if group and size + cache.clips[i].length > BATCH_FRAMES:
            yield group
            group, size = [], 0
        group.append(i)
        size += cache.clips[i].length
    if group:
        yield group


def encode(
    tokenizer: Tokenizer, cache: PoseCache, group: list[int], failed: dict[str, str]
) -> list[tuple[int, TokenSequence]]:
    """The tokens of the clips that can be encoded; `failed` gets the others."""
    try:
        return list(
            zip(
                group, tokenizer.encode_prepared([cache.frames(i) for i in group], [cache.clips[i].name for i in group])
            )
        )
    except ValueError as error:
        if len(group) > 1:
            return [one for i in group for one in encode(tokenizer, cache, [i], failed)]
        failed[cache.clips[group[0]].name] = str(error)
        return []


def make_form(args: argparse.Namespace, tokenizer: Tokenizer, rle: bool) -> Form:
    if unknown := set(args.body_parts or ()).difference(tokenizer.parts):
        raise UserError(
            f"--body-parts: {sorted(unknown)[0]!r} is none of {' '.join(tokenizer.parts)}; key.path=value stands before it"
        )
    parts = {
        tag: levels
        for tag, levels in zip(tokenizer.parts, tokenizer.levels)
        if tag in (args.body_parts or tokenizer.parts)
    }
    form = Form(tuple(parts), args.layout, rle)
    if not (args.to_llm or args.tokenizer or args.text_vocab_size):
        return form
    text = open_text_tokenizer(args.tokenizer) if args.tokenizer else None
    least = 1 if text is None else len(text)
    size = least if text and args.text_vocab_size is None else args.text_vocab_size or 0
    if size < least:
        raise UserError(
            f"--to-llm needs --text-vocab-size N, the number of ids that text has, of at least {least}, or --tokenizer PATH alone"
        )
    vocabulary = replace(tokenizer.vocabulary, parts=form.parts, levels=tuple(parts.values()), offset=size)
    return form._replace(
        vocabulary=vocabulary,
        text_ids=text and (lambda words: list(text(words, add_special_tokens=False)["input_ids"])),
    )


def open_text_tokenizer(path: str):
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


def export(args: argparse.Namespace, session: Session) -> int:
    from tqdm import tqdm

    from signstream.data.cache import open_cache

    tokenizer, config, ranks = session
    form = make_form(args, tokenizer, config.export.enable_rle)
    tokenizer.encode([[[0.0] * 3] * tokenizer.skeleton.num_joints])  # what would fail for every clip fails here
    cache = open_cache(config.data, quiet=not ranks.is_main)
    clips, failed = cache.split(args.split)[: args.num_samples], {}
    names = {i: cache.clips[i].name for i in clips}
    if args.num_samples is None:
        left_out = {
            line.name: f"{line.reason} (the cache left it out)" for line in cache.skipped if line.split == args.split
        }
        failed = {name: reason for name, reason in left_out.items() if name not in names.values()}
    parts = Parts(args.out, header(args, form, session, ranks.broadcast(cache.path.name)))
    done, began = ranks.from_main(lambda: set(parts.found())), time.perf_counter()
    todo = [i for i in clips if i not in done]
    if ranks.is_main:
        print(f"data: {cache.summary()}")
        print(
            f"tokenizer {tokenizer.digest}: {len(clips)} clips of {args.split}, {len(clips) - len(todo)} of them done before",
            flush=True,
        )
    mine, write = todo[ranks.rank :: ranks.world], parts.append(ranks.rank)
    with tqdm(total=len(mine), desc="export", unit="clip", disable=None if ranks.is_main else True) as bar:
        for group in groups(cache, mine):
            for i, tokens in encode(tokenizer, cache, group, failed):
                write(form.row(i, tokens, cache.clips[i].text))
            bar.update(len(group))
    for others in ranks.collect(failed):
        failed |= others

    def finish() -> None:
        places = parts.found()
        if lost := [name for i, name in names.items() if i not in places and name not in failed]:
            raise UserError(
                f"{len(lost)} clips are in no part file beside {args.out}, such as {lost[0]!r}: all ranks must write to one file system"
            )
        for name, reason in failed.items():
            print(f"failed: {name}: {reason}", file=sys.stderr)
        told = merge(
            args, form, parts, [places[i] for i in clips if i in places], tokenizer.config.model.rvq.codebook_size
        )
        speed = sum(i in places for i in todo) / (time.perf_counter() - began)
        print(
            f"{told}; {len(failed)} clips failed; {speed:.1f} clips/s over {ranks.world} process{'es' * (ranks.world > 1)}",
            flush=True,
        )

    ranks.from_main(finish)
    return 1 if failed else 0


def header(args: argparse.Namespace, form: Form, session: Session, data: str) -> dict[str, Any]:
    """All that decides the bytes of a clip's row."""
    from signstream.tokens.format import FORMAT

    own = session.tokenizer
    return {
        "format": FORMAT,
        "tokenizer": own.digest,
        "codes_per_chunk": own.codes_per_chunk,
        "hold": own.hold,
        "parts": form.parts,
        "layout": form.layout,
        "rle": form.rle,
        "llm": [args.tokenizer, form.vocabulary.offset] if form.vocabulary else None,
        "device": session.ranks.device.type,
        "data": data,
    }


def merge(
    args: argparse.Namespace, form: Form, parts: Parts, places: list[tuple[Path, int]], codebook_size: int
) -> str:
    """Part files -> the outputs, each whole or not there; what they hold, in a line."""
    from signstream.io.whole import write_whole
    from signstream.tokens.format import write_list

    if not places:
        raise UserError(f"no clip of {args.split} could be exported")
    if form.vocabulary is not None:
        added = json.dumps(form.vocabulary.added_tokens(), indent=0) + "\n"
        write_whole(args.out.with_name(f"{args.out.stem}.added_tokens.json"), lambda file: file.write(added.encode()))
        write_whole(
            args.out.with_name(f"{args.out.stem}.llm.jsonl"), lambda file: file.writelines(parts.read(places, 4))
        )
    if args.format == "json":
        write_whole(
            args.out, lambda file: file.write(write_list(line.decode() for line in parts.read(places, 3)).encode())
        )
    else:
        write_whole(args.out, lambda file: file.writelines(parts.read(places, 3)))
    chunks, seconds, sent, symbols, held, all_parts = (
        sum(column) for column in zip(*map(json.loads, parts.read(places, 2)))
    )
    for path in parts.files():
        path.unlink()
    return (
        f"{args.out}: {len(places)} clips, {chunks} chunks, {sent / chunks:.2f} codes and {symbols / chunks:.2f} symbols a chunk, "
        f"{held / all_parts:.1%} of the part-chunks held, {symbols * math.log2(codebook_size + 1) / seconds:.0f} bits/s"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m signstream.inference.export_tokens",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="a checkpoint, a run's folder or an experiment's; else the config's newest run",
    )
    parser.add_argument("--split", default="val", help="(default: %(default)s)")
    parser.add_argument("--num-samples", type=int, metavar="N", help="only the first N clips of the split")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--format", choices=("jsonl", "json"), default="jsonl", help="a clip a line, or one list (default: %(default)s)"
    )
    parser.add_argument(
        "--layout", choices=("chunk", "part"), default="chunk", help="tokens by chunk or by part (default: %(default)s)"
    )
    parser.add_argument(
        "--rle",
        action=argparse.BooleanOptionalAction,
        help="hold and write runs, or not; the config's export.enable_rle",
    )
    parser.add_argument("--body-parts", nargs="+", metavar="TAG", help="only these, for example F LH RH")
    parser.add_argument("--to-llm", action="store_true", help="ids and labels for a language model as well")
    parser.add_argument(
        "--text-vocab-size",
        type=int,
        metavar="N",
        help="where the signs' ids begin; without --tokenizer text stays text",
    )
    parser.add_argument(
        "--tokenizer", metavar="PATH", help="the text's tokenizer, as transformers' AutoTokenizer takes it"
    )
    args = cli.parse_with_config(parser, argv)
    config = load_config(args.config, args.overrides)
    if args.num_samples is not None and args.num_samples < 1:
        raise UserError(f"--num-samples is {args.num_samples}: at least 1 is expected")
    if args.out.is_dir():
        raise UserError(f"--out {args.out} is a folder: name a file in it")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    overrides = args.overrides if args.rle is None else [*args.overrides, f"export.enable_rle={str(args.rle).lower()}"]
    with open_session(
        args.checkpoint or Path(config.save_path, config.experiment_name), args.config, overrides
    ) as session:
        return export(args, session)


if __name__ == "__main__":
    cli.run(main)
