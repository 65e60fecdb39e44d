"""What a model file is: what it says of itself, and how it is opened.

    describe(tokenizer, kind, form, precision) -> {key: text}     travels in the file; docs/export.md says what each is
    read(path or bytes) -> Exported                               its description, and what it does: tensor -> tensor

A TorchScript or .pt2 file is a program, which may do anything: it is opened only when it is trusted. Its description is
read without opening it.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from signstream.config import dump
from signstream.errors import UserError, first_line
from signstream.inference.tokenizer import Tokenizer

FORMAT = 1
# what `describe` says
KEYS = (
    *("signstream", "kind", "form", "precision", "tokenizer", "parts", "levels", "codebook_size"),
    *("chunk_len", "window", "fps", "num_joints", "space", "config"),
)


class Ends(NamedTuple):
    given: str
    got: str


ENDS = {"encoder": Ends("poses", "codes"), "decoder": Ends("codes", "poses")}
PRECISIONS = ("fp32", "fp16")


@dataclass(frozen=True)
class Exported:
    """A file that was opened: what it says of itself, and what it does."""

    description: dict[str, str]
    run: Callable[[Tensor], Tensor]

    @property
    def kind(self) -> str:
        return self.description["kind"]


def describe(tokenizer: Tokenizer, kind: str, *, form: str, precision: str) -> dict[str, str]:
    """What travels in a file: texts; `config` is YAML, what holds more than a word is JSON."""
    config, space = tokenizer.config, tokenizer.views.space
    description = {
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
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in description.items()}


def read(file: Path | bytes, *, trust: bool = False, threads: int = 1) -> Exported:
    """A file's path, or all of it."""
    name, data = ("the export", file) if isinstance(file, bytes) else (str(file), _content(file))
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return _read_onnx(name, data, threads)
    description = _checked(name, _extra_files(name, data))
    form = description["form"]
    if not trust:
        raise UserError(f"{name} is a program ({form}) that would be run: pass --trust if you know who made it")
    try:
        with quiet():
            return Exported(description, _opened(form, data))
    except Exception as error:  # somebody's bytes may fail in any way
        what = f"{type(error).__name__}, {first_line(error)}"
        raise UserError(f"{name} cannot be opened as {form}: {what}") from None


def _opened(form: str, data: bytes) -> Callable[[Tensor], Tensor]:
    file = io.BytesIO(data)
    return torch.jit.load(file) if form == "torchscript" else torch.export.load(file).module()


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"there is no file {path}: name what export_model wrote")
    return path.read_bytes()


def _extra_files(name: str, data: bytes) -> dict[str, str]:
    """What travels in a TorchScript or .pt2 file, without opening it as one."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {}
            for member in archive.namelist():
                if match := re.search(r"(?:^|/)extra(?:_files)?/(\w+)$", member):
                    members[match[1]] = member
            return {key: archive.read(members[key]).decode() for key in KEYS if key in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise UserError(f"{name} is cut short or damaged: {error}") from None


def _read_onnx(name: str, data: bytes, threads: int) -> Exported:
    runtime = need("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a class of its own for each way to fail
        raise UserError(f"{name} is no ONNX file that can be run: {first_line(error)}") from None
    description = _checked(name, session.get_modelmeta().custom_metadata_map)
    given = ENDS[description["kind"]].given
    return Exported(description, lambda inputs: torch.from_numpy(session.run(None, {given: inputs.numpy()})[0]))


def _checked(name: str, description: Mapping[str, str]) -> dict[str, str]:
    missing = [key for key in KEYS if key not in description]
    if missing or description["kind"] not in ENDS or description["precision"] not in PRECISIONS:
        what = f"its {missing[0]}" if missing else "a kind and a precision that this version knows"
        raise UserError(f"{name} was not made by export_model: it does not say {what}")
    return dict(description)


def need(package: str) -> Any:
    """A package that only some users have."""
    try:
        return import_module(package)
    except ImportError:
        install = f"ONNX files need the package {package} (pip install {package})"
        raise UserError(f"{install}; --format torchscript does not") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of what only looks as if it depended on the example; compare.py counts whether it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
