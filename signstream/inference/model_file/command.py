"""What the doors inference/export_model.py and inference/check_export.py do: write files that hold, and say whether
files hold."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import torch
from torch import Tensor

from signstream.config.files import parse
from signstream.config.rvq import Config
from signstream.errors import UserError, first_line
from signstream.inference.model_file import samples
from signstream.inference.model_file.compare import Verdict, check, speeds
from signstream.inference.model_file.file import Exported, need, read
from signstream.inference.model_file.write import export
from signstream.inference.session import open_session
from signstream.inference.tokenizer import Tokenizer
from signstream.io.whole import write_whole

ON_CPU = ("train.device=cpu", "train.threads=1")


class Made(NamedTuple):
    """A file that does what the tokenizer does, and the lines that say how well."""

    data: bytes
    lines: list[str]


def export_model(args: Namespace) -> None:
    """The options of inference/export_model.py."""
    if args.precision != "fp32" and args.format != "onnx":
        raise UserError(f"--precision {args.precision} is for --format onnx: {args.format} files are fp32")
    if args.output.is_dir():
        raise UserError(f"--output {args.output} is a folder: name a file in it")
    for package in ("onnx", "onnxruntime") if args.format == "onnx" else ():
        need(package)
    with open_session(args.checkpoint, overrides=[*ON_CPU, *args.overrides]) as (tokenizer, config, _):
        real: list[Tensor] = []
        try:
            real = samples.real_poses(tokenizer, config.data)
        except (UserError, OSError) as error:
            print(f"tried on random chunks alone, since there are no real ones: {error}")
        made = {}
        for kind, path in paths(args.output, args.part).items():
            made[path] = export_checked(tokenizer, kind, args.format, precision=args.precision, real=real)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        for path, (data, lines) in made.items():
            write_whole(path, partial(_write, data))
            print(f"{path}: {len(data) / 2**20:.1f} MiB of the tokenizer {tokenizer.digest}")
            for line in lines:
                print(f"  {line}")


def paths(output: Path, part: str) -> dict[str, Path]:
    """{kind: the file that is written}"""
    if part != "all":
        return {part: output}
    return {kind: output.with_name(f"{output.stem}.{kind}{output.suffix}") for kind in ("encoder", "decoder")}


def export_checked(
    tokenizer: Tokenizer, kind: str, form: str, *, precision: str = "fp32", real: Sequence[Tensor] = ()
) -> Made:
    try:
        data = export(tokenizer, kind, form, precision=precision)
        verdict = check(read(data, trust=True), tokenizer, real)
    except UserError:
        raise
    except Exception as error:  # exporters and runtimes have many ways to fail, and a network may be a user's own class
        what = f"{type(error).__name__}, {first_line(error)}"
        raise UserError(
            f"the {kind} as {form} cannot be exported for any number of chunks ({what}); in an architecture of your "
            "own, take sizes from x.shape, not from len(x), and let nothing depend on what a tensor holds"
        ) from error
    if not verdict.holds:
        what = f"the {kind} as {form} {precision} does not do what the tokenizer does ({'; '.join(verdict.lines)})"
        advice = ": take --precision fp32" if precision != "fp32" else ""
        raise UserError(f"{what}; it is not written{advice}")
    return Made(data, verdict.lines)


def _write(data: bytes, file: IO[bytes]) -> None:
    file.write(data)


def check_export(args: Namespace) -> int:
    """The options of inference/check_export.py; 1 if the file does not hold."""
    exported = read(args.file, trust=args.trust)
    checkpoint = args.checkpoint or named_checkpoint(exported)
    with open_session(checkpoint, overrides=[*ON_CPU, *args.overrides]) as (tokenizer, config, _):
        about = exported.description
        if tokenizer.digest != about["tokenizer"]:
            raise UserError(
                f"{args.file} was made of the tokenizer {about['tokenizer']} and the checkpoint is {tokenizer.digest}: "
                "name the one it was made of with --checkpoint"
            )
        exported = read(args.file, trust=args.trust, threads=torch.get_num_threads())
        what = f"{exported.kind} of the tokenizer {about['tokenizer']}, {about['form']} {about['precision']}"
        print(f"{args.file}: {what}, {args.file.stat().st_size / 2**20:.1f} MiB")
        verdict = _check(exported, tokenizer, real=_real_poses(tokenizer, config, args.data))
        for line in [*verdict.lines, *speeds(exported, tokenizer), "holds" if verdict.holds else "DOES NOT HOLD"]:
            print(f"  {line}")
    return 0 if verdict.holds else 1


def _check(exported: Exported, tokenizer: Tokenizer, *, real: list[Tensor]) -> Verdict:
    try:
        return check(exported, tokenizer, real)
    except Exception as error:  # the file is somebody's, so running it may fail in any way
        raise UserError(f"the file cannot be run: {type(error).__name__}, {first_line(error)}") from error


def _real_poses(tokenizer: Tokenizer, config: Config, root: str | None) -> list[Tensor]:
    """Of the data that the user names, or else of the checkpoint's, which may be gone."""
    if root is not None:
        return samples.real_poses(tokenizer, replace(config.data, root=root))
    try:
        return samples.real_poses(tokenizer, config.data)
    except (UserError, OSError) as error:
        print(f"  no real chunks: {error}")
        return []


def named_checkpoint(exported: Exported) -> Path:
    """Where the run that a file was made of was kept."""
    config = parse(exported.description["config"], "the file's config")
    if not isinstance(config, dict) or not {"save_path", "experiment_name"} <= config.keys():
        raise UserError("the file does not say which run it was made of: name a checkpoint with --checkpoint")
    return Path(str(config["save_path"]), str(config["experiment_name"]))
