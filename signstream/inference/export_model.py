"""The tokenizer as files that need no signstream, and as ONNX no Python: one that makes codes of poses, one that makes poses of codes.

    python -m signstream.inference.export_model --checkpoint checkpoints/quickstart --output exports/quickstart.onnx
    python -m signstream.inference.export_model --checkpoint PATH --part encoder --precision fp16 --output exports/phone.onnx
    python -m signstream.inference.export_model --checkpoint PATH --format torchscript --part decoder --output exports/decoder.pt

    encoder: poses [N, L, J, 3]   prepared frames: x, y in unit lengths from the frame's nose, score; a joint of score 0 is missing
             -> codes [N, P, Q]   int64, every level; -1 where nothing of a part is seen, and at levels that a part does not have
    decoder: codes [N, P, Q]      int64, the first levels of each part, -1 after them; N chunks of one clip, in order
             -> poses [N, L, J, 3]   x, y in unit lengths from the nose, 1 where a part that was sent tells the joint

N is open, and a multiple of data.window. --part all writes both, as <name>.encoder.onnx and <name>.decoder.onnx. What a file is travels in it
(`describe`). A file that does not do what the tokenizer does is not written. docs/export.md says how frames are prepared.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signstream import cli
from signstream.errors import UserError
from signstream.inference.session import open_session

if TYPE_CHECKING:
    from torch import Tensor, nn

    from signstream.data.collate import ChunkBatch
    from signstream.inference.tokenizer import Tokenizer
    from signstream.models.rvq.rvq_model import RVQModel

FORMAT = 1
KEYS = (
    "signstream",
    "kind",
    "form",
    "precision",
    "tokenizer",
    "parts",
    "levels",
    "codebook_size",
    "chunk_len",
    "window",
    "fps",
    "num_joints",
    "space",
    "config",
)  # what `describe` says
OPSET = 17  # the first with LayerNormalization, and the last that torch 2.1 writes
ON_CPU = ("train.device=cpu", "train.threads=1")
NAMES = {"encoder": ("poses", "codes"), "decoder": ("codes", "poses")}


def describe(tokenizer: Tokenizer, kind: str, form: str, precision: str) -> dict[str, str]:
    """What travels in a file: texts; `config` is YAML, what holds more than a word is JSON."""
    from signstream.config import dump

    config, space = tokenizer.config, tokenizer.views.space
    said = {
        "signstream": FORMAT,
        "kind": kind,
        "form": form,
        "precision": precision,
        "tokenizer": tokenizer.digest,
        "parts": [
            {"tag": part.tag, "name": part.name, "first": part.start, "joints": len(part)}
            for part in tokenizer.skeleton.parts
        ],
        "levels": list(tokenizer.levels),
        "codebook_size": config.model.rvq.codebook_size,
        "chunk_len": config.data.chunk_len,
        "window": config.data.window,
        "fps": config.data.fps,
        "num_joints": tokenizer.skeleton.num_joints,
        "space": {name: getattr(space, name).tolist() for name in ("shift", "scale", "attach")},
        "config": dump(config),
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items()}


# -- the networks


def make_network(tokenizer: Tokenizer, kind: str) -> nn.Module:
    """What a file of this kind holds: poses to codes, or codes to poses."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from signstream.models.rvq.quantizer import ResidualQuantizer
    from signstream.tasks.rvq.losses import valid_chunks

    class Nearest(nn.Module):
        """ResidualQuantizer.encode with a codebook a part and level, so that a file holds each once, for the product and for the look-up."""

        def __init__(self, quantizer: ResidualQuantizer) -> None:
            super().__init__()
            self.depth, self.levels = quantizer.depth, quantizer.levels.tolist()
            books = [
                quantizer.codebook[p, level].clone() for p, levels in enumerate(self.levels) for level in range(levels)
            ]
            self.books = nn.ParameterList(nn.Parameter(book, requires_grad=False) for book in books)  # [K, Z] each
            self.halves = nn.ParameterList(
                nn.Parameter(book.square().sum(-1) / -2, requires_grad=False) for book in books
            )  # [K] each

        def forward(self, latents: Tensor) -> Tensor:
            """[P, N, Z] -> [N, P, Q]"""
            rows, books = [], iter(zip(self.books, self.halves))
            for residual, levels in zip(latents.unbind(), self.levels):
                codes = []
                for _ in range(levels):
                    book, half = next(books)
                    code = F.linear(residual, book, half).argmax(
                        -1
                    )  # [N]; the nearest has the largest product, less half its square
                    residual = residual - F.embedding(code, book)
                    codes.append(code)
                rows.append(torch.stack(codes + [torch.full_like(codes[0], -1)] * (self.depth - levels), -1))
            return torch.stack(rows, 1)

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            quantizer = tokenizer.model.quantizer
            self.model = only(tokenizer.model, "encoder")
            self.quantizer = Nearest(quantizer) if isinstance(quantizer, ResidualQuantizer) else quantizer
            self.codes = self.quantizer if isinstance(quantizer, ResidualQuantizer) else quantizer.encode

        def forward(self, poses: Tensor) -> Tensor:
            """[N, L, J, 3] -> [N, P, Q]"""
            inputs, targets = tokenizer.views.of(chunks_of(tokenizer, poses))
            return torch.where(valid_chunks(targets).T[..., None], self.codes(self.model.encode(inputs)), -1)

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.quantizer = only(tokenizer.model, "decoder"), tokenizer.model.quantizer

        def forward(self, codes: Tensor) -> Tensor:
            """[N, P, Q] -> [N, L, J, 3]"""
            sent = codes[..., 0] >= 0  # [N, P]
            views = tokenizer.views.restore(self.model.decode(self.quantizer.decode_codes(codes)))
            joined = {name: join(view, there) for (name, view), there in zip(views.items(), sent.unbind(1))}
            return put_together(joined, dict(zip(views, sent.unbind(1))), tokenizer)

    return {"encoder": Encoder, "decoder": Decoder}[kind]().eval()


def only(model: RVQModel, half: str) -> RVQModel:
    """The model without its quantiser and without its other half."""
    model = deepcopy(model)
    for name in {"encoder", "decoder", "quantizer"} - {half}:
        delattr(model, name)
    return model


def chunks_of(tokenizer: Tokenizer, poses: Tensor) -> ChunkBatch:
    """Prepared frames [N, L, J, 3] as the model's views are made of them; clips and places are of no account."""
    from signstream.data.collate import ChunkBatch

    weight, none, centred = poses[..., 2], poses.new_zeros(poses.shape[0]), tokenizer.config.data.normalize.center_parts
    return ChunkBatch(poses[..., :2], weight, weight, poses[:, :, 0], none, none, none, tokenizer.skeleton, centred)


def join(view: Tensor, sent: Tensor) -> Tensor:
    """data.space.join_chunks without writing into a tensor: view [N, L, J, 2], sent [N]."""
    import torch

    from signstream.space import SEAM

    size = view.shape[1]
    seam = min(SEAM, size // 2)
    if seam < 2:
        return view
    row = torch.arange(view.shape[0], device=view.device)
    last = (row - 1).clamp(
        min=0
    )  # the row before; neighbours are looked up, since a slice of N - 1 rows would be empty for one chunk
    follows = sent & sent[last] & (row > 0)
    before = view[:, -2:][last]  # [N, 2, J, 2]
    speed = (before[:, 1] - before[:, 0] + view[:, 1] - view[:, 0]) / 2  # [N, J, 2]
    off = (before[:, 1] + speed - view[:, 0]) * follows.to(view.dtype)[:, None, None] / 2
    share = view.new_tensor([max(1 - frame / seam, 0.0) for frame in range(size)])[
        :, None, None
    ]  # [L, 1, 1], 1 beside the seam
    return (
        view + off[:, None] * share - off[(row + 1) % view.shape[0]][:, None] * share.flip(0)
    )  # the first chunk's is 0, so the last's too


def put_together(views: dict[str, Tensor], sent: dict[str, Tensor], tokenizer: Tokenizer) -> Tensor:
    """data.space.assemble without writing into a tensor: views {part: [N, L, J_p, 2]}, sent {part: [N]} -> [N, L, J, 3]."""
    import torch

    skeleton, space = tokenizer.skeleton, tokenizer.views.space
    first = next(iter(views.values()))
    out = first.new_zeros(1, 1, 1, 1).expand(first.shape[0], first.shape[1], skeleton.num_joints, 3)
    for part in sorted(skeleton.parts, key=lambda part: {"full_body": 0, "body": 1}.get(part.name, 2)):
        view, here = views[part.name], sent[part.name][:, None, None, None]
        centre = (
            torch.zeros_like(view[..., 0, :]) if part.anchors == skeleton.origin else out[..., part.centre, :2]
        )  # [N, L, 2]
        if part.hangs_on:
            own, host = part.hangs_on[0]
            hung = out[..., host, :2] + space.attach[space.parts.index(part.name)] - view[..., own - part.start, :]
            centre = torch.where((out[..., host, 2] > 0).all(), hung, centre)
        told = torch.cat((view + centre[..., None, :], torch.ones_like(view[..., :1])), -1)
        pieces = [
            out[..., : part.start, :],
            torch.where(here, told, out[..., part.joints, :]),
            out[..., part.stop :, :],
        ]
        widths = part.start, len(part), skeleton.num_joints - part.stop
        out = torch.cat([piece for piece, width in zip(pieces, widths) if width], -2)
    return out


def example(tokenizer: Tokenizer, kind: str, windows: int) -> Tensor:
    """Chunks that a file of this kind takes."""
    from signstream.inference.check_export import random_codes, random_poses

    return (random_poses if kind == "encoder" else random_codes)(tokenizer, windows, seed=windows)


# -- the files


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of what only looks as if it depended on the example; check_export counts whether it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def export(tokenizer: Tokenizer, kind: str, form: str, precision: str = "fp32") -> bytes:
    """The whole file."""
    import torch

    said = describe(tokenizer, kind, form, precision)
    with torch.no_grad(), quiet():
        return FORMS[form](make_network(tokenizer, kind), example(tokenizer, kind, 3), said)


def to_torchscript(network: nn.Module, inputs: Tensor, said: dict[str, str]) -> bytes:
    import torch

    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(network, (inputs,), check_trace=False), file, _extra_files=said)
    return file.getvalue()


def to_pt2(network: nn.Module, inputs: Tensor, said: dict[str, str]) -> bytes:
    import torch

    if not hasattr(torch.export, "Dim") or tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        raise UserError(
            f"--format pt2 needs torch 2.6 or later and this is {torch.__version__}: take onnx or torchscript"
        )
    file, windows = io.BytesIO(), torch.export.Dim("windows", min=1)
    count = windows if said["window"] == "1" else int(said["window"]) * windows
    program = torch.export.export(network, (inputs,), dynamic_shapes=({0: count},), strict=False)
    torch.export.save(program, file, extra_files=said)
    return file.getvalue()


def to_onnx(network: nn.Module, inputs: Tensor, said: dict[str, str]) -> bytes:
    """By way of a trace, which every torch since 2.1 can do."""
    import inspect

    import torch

    onnx, file, (given, got) = need("onnx"), io.BytesIO(), NAMES[said["kind"]]
    by_trace: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(
        network,
        (inputs,),
        file,
        input_names=[given],
        output_names=[got],
        opset_version=OPSET,
        dynamic_axes={given: {0: "N"}, got: {0: "N"}},
        **by_trace,
    )
    model = PRECISIONS[said["precision"]](onnx.load_from_string(file.getvalue()))
    onnx.helper.set_model_props(model, said)
    model.producer_name, model.producer_version = "signstream", said["tokenizer"]
    return model.SerializeToString()


def to_fp16(model: Any) -> Any:
    """Half the size: weights lie in 16 bits and are widened when the file is opened; all arithmetic stays in 32."""
    import numpy as np

    onnx, widen = need("onnx"), []
    for weight in model.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or len(weight.dims) < 2 or math.prod(weight.dims) < 1024:
            continue
        name, narrow = weight.name, onnx.numpy_helper.to_array(weight).astype(np.float16)
        if not np.isfinite(narrow).all():
            continue
        weight.CopyFrom(onnx.numpy_helper.from_array(narrow, f"{name}_16"))
        widen.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(widen + nodes)
    return model


def need(package: str) -> Any:
    """A package that only some users have."""
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError:
        raise UserError(
            f"ONNX files need the package {package} (pip install {package}); --format torchscript does not"
        ) from None


FORMS = {"onnx": to_onnx, "torchscript": to_torchscript, "pt2": to_pt2}
PRECISIONS = {"fp32": lambda model: model, "fp16": to_fp16}


# -- the program


def export_checked(
    tokenizer: Tokenizer, kind: str, form: str, precision: str, real: list[Tensor]
) -> tuple[bytes, list[str]]:
    """A file that does what the tokenizer does, and the lines that say how well."""
    from signstream.inference.check_export import check, read

    try:
        data = export(tokenizer, kind, form, precision)
        verdict = check(read(data, trust=True), tokenizer, real)
    except ValueError:
        raise
    except (
        Exception
    ) as error:  # exporters and runtimes have many ways to fail, and the network may be a user's own class
        what = f"{type(error).__name__}, {(str(error) or '?').strip().splitlines()[0]}"
        raise UserError(
            f"the {kind} as {form} cannot be exported for any number of chunks ({what}); in an architecture of your own, "
            "take sizes from x.shape, not from len(x), and let nothing depend on what a tensor holds"
        ) from error
    if not verdict.holds:
        raise UserError(
            f"the {kind} as {form} {precision} does not do what the tokenizer does ({'; '.join(verdict.lines)}); it is not written"
            + (": take --precision fp32" if precision != "fp32" else "")
        )
    return data, verdict.lines


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m signstream.inference.export_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="PATH",
        help="a checkpoint, a run's folder or an experiment's: its newest run",
    )
    parser.add_argument("--format", choices=tuple(FORMS), default="onnx", help="(default: %(default)s)")
    parser.add_argument(
        "--part", choices=("encoder", "decoder", "all"), default="all", help="(default: %(default)s, two files)"
    )
    parser.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        default="fp32",
        help="of the weights in an ONNX file; fp16 is half the size (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    args = cli.parse_with_overrides(
        parser, argv, "for example data.root=DIR, where the clips are that the file is tried on"
    )
    if args.precision != "fp32" and args.format != "onnx":
        raise UserError(f"--precision {args.precision} is for --format onnx: {args.format} files are fp32")
    if args.output.is_dir():
        raise UserError(f"--output {args.output} is a folder: name a file in it")
    if args.format == "onnx":
        need("onnx"), need("onnxruntime")
    with open_session(args.checkpoint, overrides=[*ON_CPU, *args.overrides]) as (tokenizer, config, _):
        from signstream.inference.check_export import real_poses
        from signstream.io.whole import write_whole

        real, made = [], {}
        try:
            real = real_poses(tokenizer, config.data)
        except (ValueError, OSError) as error:
            print(f"tried on random chunks alone, since there are no real ones: {error}")
        for kind in ("encoder", "decoder") if args.part == "all" else (args.part,):
            path = (
                args.output.with_name(f"{args.output.stem}.{kind}{args.output.suffix}")
                if args.part == "all"
                else args.output
            )
            made[path] = export_checked(tokenizer, kind, args.format, args.precision, real)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        for path, (data, lines) in made.items():
            write_whole(path, lambda file, data=data: file.write(data))
            print(f"{path}: {len(data) / 2**20:.1f} MiB of the tokenizer {tokenizer.digest}")
            for line in lines:
                print(f"  {line}")


if __name__ == "__main__":
    cli.run(main)
