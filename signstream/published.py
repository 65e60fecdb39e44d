"""A published model of transformers on this machine: nothing is fetched, no code of a file is run.

    whole_files(name, kind, "config.json", ...) -> {file: where it lies}, or one line that says what to fetch
    pretrained(name, kind) -> transformers' model, in float32
    digest_of({name: weight}) -> whose weights these are

The name is a folder's, or that of what was fetched before. Weights are read from safetensors alone, since the older
format is a pickle; adapters beside them, which transformers would read where the package peft is, are refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from signstream.errors import UserError, first_line, shown

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLE = "pytorch_model.bin"
ADAPTERS = "adapter_config.json"


class Kind(NamedTuple):
    """Which models are meant, and how they are spoken of."""

    what: str  # the text model
    many: str  # text models
    one: str  # an mBART
    opener: str  # transformers' class
    types: tuple[str, ...]  # that its config may say


def transformers_package(many: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise UserError(f"{many} need the package transformers (pip install transformers)") from None
    return transformers


def whole_files(name: str, kind: Kind, *needed: str) -> dict[str, str]:
    """Where the needed files lie, of a model that lacks none of them and no weights."""
    files = {file: _file_of(name, file, kind) for file in (*needed, PICKLE, *WEIGHTS)}
    missing = [file for file in needed if files[file] is None]
    weights = any(files[file] for file in WEIGHTS)
    if not missing and not weights and files[PICKLE]:
        raise UserError(
            f"{kind.what} {shown(name)} has its weights as a pickle alone ({PICKLE}), which is not opened, since it "
            f"may run code: no {WEIGHTS[0]}. If you trust it, have transformers write the other once, "
            f"{kind.opener}.from_pretrained({shown(name)}).save_pretrained('FOLDER'), copy its "
            f"{needed[-1]} into FOLDER, and name FOLDER"
        )
    missing += [] if weights else [WEIGHTS[0]]
    if missing:
        raise UserError(
            f"{kind.what} {shown(name)} is not whole on this machine: no {', no '.join(missing)}; fetch it once with "
            f"`hf download {shown(name)}`, or name the folder of {kind.one} that has {', '.join(needed)} and "
            f"{WEIGHTS[0]}"
        )
    return {file: str(files[file]) for file in needed}


def _file_of(name: str, file: str, kind: Kind) -> str | None:
    """Where it lies, in the folder of that name or in the cache of what was fetched."""
    transformers_package(kind.many)
    from transformers.utils import cached_file

    try:
        return cached_file(name, file, local_files_only=True)
    except (OSError, ValueError):
        return None


def pretrained(name: str, kind: Kind) -> Any:
    package, place = transformers_package(kind.many), _folder_of(name, kind)
    how = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = package.AutoConfig.from_pretrained(place, **how)
        if config.model_type not in kind.types:
            raise UserError(f"{kind.what} {shown(name)} is {shown(config.model_type)}: {kind.one} is expected")
        opener = getattr(package, kind.opener)
        model, report = opener.from_pretrained(place, use_safetensors=True, output_loading_info=True, **how)
    except UserError:
        raise
    except Exception as error:  # files of somebody else, and three packages that read them
        raise UserError(f"{kind.what} {shown(name)} cannot be opened: {first_line(error)}") from None
    lacking = sorted(report["missing_keys"])
    if lacking:
        raise UserError(f"{kind.what} {shown(name)} lacks {len(lacking)} weights, {lacking[0]} among them")
    return model.float()


def _folder_of(name: str, kind: Kind) -> str:
    """Where its files lie. A name would be asked for adapters elsewhere."""
    config = _file_of(name, "config.json", kind)
    place = name if config is None else os.path.dirname(config)
    if _file_of(place, ADAPTERS, kind):
        raise UserError(
            f"{kind.what} {shown(name)} has adapters beside its weights ({ADAPTERS}), which are not read: merge them "
            "into the weights with peft, or name a folder without that file"
        )
    return place


def digest_of(weights: Mapping[str, Any]) -> str:
    """sha256 over names, shapes and bytes, as float32, wherever they lie; the same weights have the same one."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {tuple(weight.shape)}\n".encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()
