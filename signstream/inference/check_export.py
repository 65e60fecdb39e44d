"""Holds what export_model wrote against the checkpoint it was made of, on chunks of real clips and on chunks drawn at random.

    python -m signstream.inference.check_export exports/quickstart.encoder.onnx
    python -m signstream.inference.check_export exports/encoder.pt2 --trust --checkpoint PATH --data CSL-Daily data.layout=npz

The checkpoint is the one named, or the newest run of the experiment that the file names; the file's digest must be its. Real chunks are those of
20 clips of the validation split of --data, else of the checkpoint's own data; where there are none, that is said. An encoder holds if 99.9 % of its
codes are PyTorch's (fp16: 99 %), a decoder if its poses are within 1e-4 unit lengths of PyTorch's (fp16: 0.1), on the real chunks and on the random
ones. Ties are set aside: where two codes are equally far to 1e-5, either is right, and so is what the deeper levels make of it. The exit status is 1
if the file does not hold.

A TorchScript or .pt2 file is a program, which may do anything: it is opened only with --trust. An ONNX file is none.
"""

from __future__ import annotations

import argparse
import io
import re
import statistics
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from signstream import cli
from signstream.errors import UserError
from signstream.inference.export_model import KEYS, NAMES, ON_CPU, chunks_of, need, quiet
from signstream.inference.session import open_session

if TYPE_CHECKING:
    from torch import Tensor

    from signstream.config import Data
    from signstream.inference.tokenizer import Tokenizer

CLIPS = 20
RANDOM_CHUNKS = 200
SAME_CODES = {"fp32": 0.999, "fp16": 0.99}
SAME_POSES = {"fp32": 1e-4, "fp16": 0.1}  # unit lengths
TIE = 1e-5
BATCH = 64  # chunks, for the second of the speeds


@dataclass(frozen=True)
class Exported:
    """A file that was opened: what it says of itself, and what it does."""

    said: dict[str, str]
    run: Callable[[Tensor], Tensor]

    @property
    def kind(self) -> str:
        return self.said["kind"]


# -- files


def read(file: Path | bytes, trust: bool = False, threads: int = 1) -> Exported:
    """A file's path, or all of it."""
    where, data = ("the export", file) if isinstance(file, bytes) else (str(file), _content(file))
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return _read_onnx(where, data, threads)
    said = _checked(where, _extra_files(where, data))
    if not trust:
        raise UserError(
            f"{where} is a program ({said['form']}) that would be run: pass --trust if you know who made it"
        )
    import torch

    file = io.BytesIO(data)
    try:
        with quiet():
            return Exported(
                said, torch.jit.load(file) if said["form"] == "torchscript" else torch.export.load(file).module()
            )
    except Exception as error:  # somebody's bytes may fail in any way
        raise UserError(
            f"{where} cannot be opened as {said['form']}: {type(error).__name__}, {(str(error) or '?').splitlines()[0]}"
        ) from None


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"there is no file {path}: name what export_model wrote")
    return path.read_bytes()


def _extra_files(where: str, data: bytes) -> dict[str, str]:
    """What travels in a TorchScript or .pt2 file, without opening it as one."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = {
                match[1]: name
                for name in archive.namelist()
                if (match := re.search(r"(?:^|/)extra(?:_files)?/(\w+)$", name))
            }
            return {key: archive.read(found[key]).decode() for key in KEYS if key in found}
    except (zipfile.BadZipFile, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{where} is cut short or damaged: {error}") from None


def _read_onnx(where: str, data: bytes, threads: int) -> Exported:
    import torch

    runtime = need("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a class of its own for each way to fail
        raise UserError(f"{where} is no ONNX file that can be run: {(str(error) or '?').splitlines()[0]}") from None
    said = _checked(where, session.get_modelmeta().custom_metadata_map)
    given = NAMES[said["kind"]][0]
    return Exported(said, lambda inputs: torch.from_numpy(session.run(None, {given: inputs.numpy()})[0]))


def _checked(where: str, said: dict[str, str]) -> dict[str, str]:
    missing = [key for key in KEYS if key not in said]
    if missing or said["kind"] not in NAMES or said["precision"] not in SAME_CODES:
        what = f"its {missing[0]}" if missing else "a kind and a precision that this version knows"
        raise UserError(f"{where} was not made by export_model: it does not say {what}")
    return said


# -- chunks to try


def random_codes(tokenizer: Tokenizer, windows: int, seed: int = 0) -> Tensor:
    """[N, P, Q]: any codes, a part in ten not sent at all, any first levels of the others."""
    import torch

    draw, levels, count = (
        torch.Generator().manual_seed(seed),
        torch.tensor(tokenizer.levels),
        windows * tokenizer.config.data.window,
    )
    codes = torch.randint(
        tokenizer.config.model.rvq.codebook_size, (count, len(levels), max(tokenizer.levels)), generator=draw
    )
    first = 1 + (torch.rand(count, len(levels), generator=draw) * levels).long()
    sent = torch.where(torch.rand(count, len(levels), generator=draw) < 0.1, 0, first.minimum(levels))
    return torch.where(torch.arange(codes.shape[-1]) < sent[..., None], codes, -1)


def random_poses(tokenizer: Tokenizer, windows: int, seed: int = 0) -> Tensor:
    """[N, L, J, 3]: what any codes decode to, shaken, with a joint in ten missing, and a part in ten."""
    import torch

    draw, codes = torch.Generator().manual_seed(seed), random_codes(tokenizer, windows, seed)
    poses = tokenizer.decode_codes(codes).unflatten(0, (len(codes), -1))
    xy = poses[..., :2] + 0.05 * torch.randn(poses[..., :2].shape, generator=draw)
    score = (
        poses[..., 2]
        * (0.3 + 0.7 * torch.rand(poses.shape[:3], generator=draw))
        * (torch.rand(poses.shape[:3], generator=draw) > 0.1)
    )
    for part in tokenizer.skeleton.parts:
        score[:, :, part.joints] *= (torch.rand(len(codes), 1, 1, generator=draw) > 0.1) | (
            len(part) == tokenizer.skeleton.num_joints
        )
    return torch.cat((xy, score[..., None]), -1) * (score > 0)[..., None]


def real_poses(tokenizer: Tokenizer, data: Data) -> list[Tensor]:
    """Clips of the validation split (else of the first), whole windows of prepared frames: [N, L, J, 3] each."""
    import numpy as np
    import torch

    from signstream.data.collate import make_chunks
    from signstream.data.datasets import load_checked, open_data
    from signstream.data.frontend import prepare
    from signstream.io.batch import pack

    source = open_data(data)
    splits, clips, reason = source.splits(), [], "it has none"
    split = "val" if splits.get("val") else next(iter(splits), "val")
    for name in splits.get(split, ()):
        try:
            clip = load_checked(source, split, name)
        except ValueError as error:
            reason = str(error)
            continue
        ready = prepare(torch.from_numpy(np.require(clip.poses, np.float32, "CW")), tokenizer.skeleton, data, clip.fps)
        rows = torch.cat((ready.place[:, None], ready.frames), 1).numpy()
        batch = make_chunks(pack([rows], [0], num_joints=tokenizer.skeleton.num_joints), tokenizer.skeleton, data)
        clips.append(torch.cat((batch.xy, batch.weight[..., None]), -1))
        if len(clips) == CLIPS:
            break
    if not clips:
        raise UserError(f"{data.root} has no usable clip in {split}: {reason}")
    return clips


# -- encoders


class Codes(NamedTuple):
    """How many codes were asked for, how many of them are PyTorch's, and how many ties were set aside."""

    count: int
    same: int
    ties: int

    @property
    def share(self) -> float:
        return self.same / max(self.count, 1)


def encode(tokenizer: Tokenizer, poses: Tensor) -> tuple[Tensor, Tensor]:
    """What PyTorch makes of prepared frames: latents [P, N, Z], and every code [N, P, Q]."""
    import torch

    from signstream.tasks.rvq.losses import valid_chunks

    inputs, targets = tokenizer.views.of(chunks_of(tokenizer, poses))
    latents, codes = tokenizer.model.read(inputs)
    return latents, torch.where(valid_chunks(targets).T[..., None], codes, -1)


def compare_codes(tokenizer: Tokenizer, poses: Tensor, found: Tensor) -> Codes:
    """found [N, P, Q]: what a file made of poses [N, L, J, 3]."""
    import torch

    latents, codes = encode(tokenizer, poses)
    asked, aside = (codes >= 0) | (found >= 0), torch.zeros_like(codes, dtype=torch.bool)
    for level in range(codes.shape[-1]):
        agreed = (found[..., :level] == codes[..., :level]).all(-1)  # [N, P]
        differ = agreed & (found[..., level] != codes[..., level]) & (found[..., level] >= 0) & (codes[..., level] >= 0)
        for n, p in differ.nonzero().tolist():
            residual = latents[p, n] - tokenizer.model.quantizer.decode_codes(codes[n : n + 1, :, :level])[p, 0]
            aside[n, p, level:] |= is_tie(
                tokenizer, residual, p, level, (int(codes[n, p, level]), int(found[n, p, level]))
            )
    counted = asked & ~aside
    return Codes(int(counted.sum()), int((counted & (found == codes)).sum()), int((aside & asked).sum()))


def is_tie(tokenizer: Tokenizer, residual: Tensor, part: int, level: int, pair: tuple[int, int]) -> bool:
    """Whether a residual [Z] is as near to one code as to the other."""
    import torch

    from signstream.models.rvq.fsq import SPREAD

    quantizer, residual, pair = tokenizer.model.quantizer, residual.double(), torch.tensor(pair)
    if tokenizer.config.model.rvq.kind == "fsq":
        digits = pair[:, None] // quantizer.place % quantizer.steps.long()  # [2, d]
        at = torch.sigmoid(SPREAD * residual @ quantizer.into[part, level].double()) * quantizer.steps
        beside = ((digits[0] - digits[1]).abs() == 1) & ((at - digits.amax(0)).abs() < TIE * quantizer.steps)
        return bool((beside | (digits[0] == digits[1])).all())
    near, far = (quantizer.codebook[part, level, pair].double() - residual).square().sum(-1).sort().values.tolist()
    return far - near <= TIE * far


# -- decoders


def compare_poses(tokenizer: Tokenizer, codes: Tensor, found: Tensor) -> tuple[float, float]:
    """The largest difference and the mean one, in unit lengths, of found [N, L, J, 3] from what PyTorch makes of codes [N, P, Q]."""
    poses = tokenizer.decode_codes(codes).view_as(found)
    if not bool((poses[..., 2] == found[..., 2]).all()):
        return float("inf"), float("inf")  # it tells other joints
    off = (poses[..., :2] - found[..., :2]).abs()
    return float(off.max()), float(off.mean())


# -- all of it


class Verdict(NamedTuple):
    holds: bool
    lines: list[str]


def check(exported: Exported, tokenizer: Tokenizer, real: list[Tensor]) -> Verdict:
    """real: clips of prepared frames [N, L, J, 3], which may be none."""
    import torch

    holds, lines, precision = True, [], exported.said["precision"]
    draws = [random_poses(tokenizer, -(-RANDOM_CHUNKS // tokenizer.config.data.window))]
    with torch.no_grad():
        for name, clips in (("real", real), ("random", draws)):
            if not clips:
                continue
            if exported.kind == "encoder":
                told = Codes(*map(sum, zip(*(compare_codes(tokenizer, poses, exported.run(poses)) for poses in clips))))
                fine = told.share >= SAME_CODES[precision]
                lines.append(
                    f"{name} chunks: {told.same} of {told.count} codes are PyTorch's, {told.share:.3%}; {told.ties} set aside as ties"
                )
            else:
                codes = (
                    [encode(tokenizer, poses)[1] for poses in clips]
                    if name == "real"
                    else [random_codes(tokenizer, len(draws[0]))]
                )
                most, mean = map(max, zip(*(compare_poses(tokenizer, rows, exported.run(rows)) for rows in codes)))
                fine = most <= SAME_POSES[precision]
                lines.append(
                    f"{name} chunks: poses differ from PyTorch's by {most:.1e} unit lengths at most, {mean:.1e} on average"
                )
            holds &= fine
    return Verdict(holds, lines)


def speeds(exported: Exported, tokenizer: Tokenizer) -> list[str]:
    """Milliseconds a chunk of the file and of PyTorch, in turns, on this process's threads."""
    import torch

    draw, ours = (
        (random_poses, partial(encode, tokenizer))
        if exported.kind == "encoder"
        else (random_codes, tokenizer.decode_codes)
    )
    lines, window = [], tokenizer.config.data.window
    for windows in (1, max(BATCH // window, 1)):
        inputs = draw(tokenizer, windows)
        with torch.no_grad():
            file, eager = (
                1e3 * seconds / len(inputs)
                for seconds in in_turns([partial(exported.run, inputs), partial(ours, inputs)], 20)
            )
        lines.append(
            f"{len(inputs)} at a time: {file:.3f} ms a chunk, PyTorch {eager:.3f} ms ({eager / file:.2f} times as long)"
        )
    return lines


def in_turns(jobs: list[Callable[[], object]], rounds: int) -> list[float]:
    """The median seconds of each job, one after the other in every round; the first three rounds warm up."""
    spent: list[list[float]] = [[] for _ in jobs]
    for turn in range(rounds + 3):
        for job, seconds in zip(jobs, spent):
            began = time.perf_counter()
            job()
            if turn >= 3:
                seconds.append(time.perf_counter() - began)
    return [statistics.median(seconds) for seconds in spent]


def named_checkpoint(exported: Exported) -> Path:
    """Where the run that a file was made of was kept."""
    import yaml

    config = yaml.safe_load(exported.said["config"])
    return Path(str(config["save_path"]), str(config["experiment_name"]))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m signstream.inference.check_export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="what export_model wrote")
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="a checkpoint, a run's folder or an experiment's; else the one that the file names",
    )
    parser.add_argument("--data", metavar="ROOT", help="a data root with real clips; else the checkpoint's own")
    parser.add_argument("--trust", action="store_true", help="open a TorchScript or .pt2 file, which is a program")
    args = cli.parse_with_overrides(
        parser, argv, "for example data.layout=npz, how the clips are read, or train.threads=2"
    )
    exported = read(args.file, args.trust)
    with open_session(args.checkpoint or named_checkpoint(exported), overrides=[*ON_CPU, *args.overrides]) as (
        tokenizer,
        config,
        _,
    ):
        import torch

        said = exported.said
        if tokenizer.digest != said["tokenizer"]:
            raise UserError(
                f"{args.file} was made of the tokenizer {said['tokenizer']} and the checkpoint is {tokenizer.digest}: "
                "name the one it was made of with --checkpoint"
            )
        exported = read(args.file, args.trust, torch.get_num_threads())
        real = []
        print(
            f"{args.file}: {said['kind']} of the tokenizer {said['tokenizer']}, {said['form']} {said['precision']}, "
            f"{args.file.stat().st_size / 2**20:.1f} MiB"
        )
        try:
            real = real_poses(tokenizer, config.data if args.data is None else replace(config.data, root=args.data))
        except (ValueError, OSError) as error:
            if args.data is not None:
                raise
            print(f"  no real chunks: {error}")
        verdict = check(exported, tokenizer, real)
        for line in [*verdict.lines, *speeds(exported, tokenizer), "holds" if verdict.holds else "DOES NOT HOLD"]:
            print(f"  {line}")
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    cli.run(main)
