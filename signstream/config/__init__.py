"""Every option of the program, once: its name, type, default and limits.

    python -m signstream.config configs/default.yaml data.chunk_len=8     # prints the resolved config

A YAML file may name one `base:` (a path beside it) and then holds only its differences; `key.path=value` on the command line
comes last. What a key means is said in configs/default.yaml, which a test holds equal to the defaults here.
Names that the specifications print are read as ours (aliases.py), and a misspelt key is an error that says the nearest right one.
A user's own classes are known by names (registry.py); modules that the file or the command line lists under `imports` are run to learn them.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from signstream import registry
from signstream.config import aliases
from signstream.errors import UserError

Ranges = dict[str, tuple[int, int]]
Pairs = tuple[tuple[int, int], ...]


def option(default: Any = None, low: float = -math.inf, high: float = math.inf) -> Any:
    limits = {"low": low, "high": high}
    return (
        field(default_factory=lambda: dict(default), metadata=limits)
        if isinstance(default, dict)
        else field(default=default, metadata=limits)
    )


@dataclass(frozen=True)
class Normalize:
    center_parts: bool = True
    bbox_range: float = option(8.0, low=1e-3)


@dataclass(frozen=True)
class Augment:
    mirror: bool = True
    time_warp: bool = True
    time_warp_range: float = option(0.2, low=0, high=0.9)
    affine: float = option(0.0, low=0, high=1)
    dropout_prob: float = option(0.05, low=0, high=1)
    random_phase: bool = True
    calm: float = option(0.0, low=0, high=1)


@dataclass(frozen=True)
class Data:
    root: str = "./CSL-Daily"
    layout: str = "csl_daily"
    split_file: str | None = None
    check_num_frames: bool = True
    cache: str = "cache"
    workers: int = option(0, low=0)
    fps: float = option(30.0, low=1e-3)
    max_frames: int | None = option(None, low=1)
    min_score: float = option(0.3, low=0, high=1)
    max_gap: int = option(4, low=0)
    smooth: int = option(2, low=0, high=8)
    unit_window: int = option(300, low=1)
    chunk_len: int = option(10, low=1)
    window: int = option(1, low=1)
    chunk_stride: int | None = option(None, low=1)
    num_joints: int = option(133, low=1)
    body_parts: Ranges = option(
        {"face": (24, 91), "left_hand": (92, 112), "right_hand": (113, 133), "body": (1, 17), "full_body": (1, 133)}
    )
    centers: dict[str, int] | None = None
    unit_joints: Pairs | None = None
    mirror_pairs: Pairs | None = None
    normalize: Normalize = field(default_factory=Normalize)
    augment: Augment = field(default_factory=Augment)

    @property
    def lookahead(self) -> int:
        """Frames (at `fps`) that the front end waits for before a frame is final: a gap may close, and the filter is symmetric."""
        return self.max_gap + self.smooth


@dataclass(frozen=True)
class Rvq:
    kind: Literal["ema", "fsq"] = "ema"
    levels: int | dict[str, int] = option(3, low=1)
    codebook_size: int = option(1024, low=2)
    ema_decay: float = option(0.99, low=0, high=1)
    kmeans: int = option(15, low=0)
    commitment_beta: float = option(0.25, low=0)
    usage_reg: float = option(1e-3, low=0)
    temporal_loss_alpha: float = option(0.05, low=0)
    level_dropout: float = option(0.1, low=0, high=1)
    revive_below: float = option(0.1, low=0, high=1)
    rotation: bool = False


@dataclass(frozen=True)
class Model:
    arch: str = "transformer"
    encoder_layer: int = option(2, low=1)
    encoder_latent_dim: int = option(256, low=1)
    latent_dim: int = option(256, low=1)
    type_embed_dim: int = option(16, low=1)
    pool: Literal["flatten", "attention", "mean"] = "flatten"
    share_hands: bool = True
    checkpointing: bool = False
    compile: bool = False
    rvq: Rvq = field(default_factory=Rvq)


@dataclass(frozen=True)
class Train:
    epochs: int = option(200, low=1)
    batch_size: int | Literal["auto"] = option("auto", low=1)
    clips_per_step: int = option(64, low=1)
    scale_with_world: bool = True
    lr: float = option(3e-4, low=0)
    wd: float = option(0.01, low=0)
    warmup_steps: int = option(500, low=0)
    min_lr: float = option(0.02, low=0, high=1)
    clip_norm: float = option(1.0, low=0)
    amp: Literal["bf16", "fp16", "fp32"] = "bf16"
    huber_delta: float = option(0.1, low=1e-6)
    part_weights: dict[str, float] = option(
        {"face": 1.0, "left_hand": 2.0, "right_hand": 2.0, "body": 1.0, "full_body": 1.0}
    )
    perceptual_weight: float = option(0.0, low=0)
    losses: dict[str, float] = option({})
    save_every: int = option(5, low=1)
    keep: int = option(3, low=1)
    eval_every: int = option(1, low=1)
    health_every: int = option(5, low=1)
    log_every: int = option(20, low=1)
    sample_clips: int = option(5, low=0)
    device: str = "auto"
    threads: int | Literal["auto"] = option("auto", low=1)
    log_wandb: bool | str = False
    seed: int = option(42, low=0)


@dataclass(frozen=True)
class Export:
    codes_per_chunk: float | Literal["full"] = option(6.0, low=0)
    enable_rle: bool = True
    rle_threshold: float = option(0.01, low=0)


@dataclass(frozen=True)
class Config:
    experiment_name: str = "default"
    save_path: str = "checkpoints"
    imports: tuple[str, ...] = ()
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)
    export: Export = field(default_factory=Export)


def load_config(path: str | Path | None = None, overrides: Iterable[str] = (), below: Config | None = None) -> Config:
    """The config of a file (none: `below`, else the defaults) with the command line's `key.path=value` on top. What these two list under `imports`
    is imported, and what `below` lists is not: that is a checkpoint's, and whether the program knows its classes is then the caller's to check."""
    given = _read_with_base(Path(path), ()) if path is not None else {}
    for text in overrides:
        name, found, value = text.partition("=")
        if not found or not name:
            raise UserError(f"{text!r} is no override: write key.path=value, for example data.chunk_len=8")
        branch: Any = _parse_yaml(
            re.sub(r"(?<=\w):(?=[\w\[])", ": ", value) if value.startswith("{") else value, f"the override {text!r}"
        )
        for part in reversed(name.split(".")):
            branch = {part: branch}
        given = _merge(given, aliases.rename(branch, f"the override {text!r}"))
    below = below if path is None else None
    config = from_dict(aliases.whole_window(given if below is None else _merge(to_dict(below), given), Data.chunk_len))
    for module in given.get("imports") or ():
        registry.import_module(module)
    if below is None:
        registry.check(config)
    return config


def from_dict(tree: dict[str, Any]) -> Config:
    """A checked Config from plain values, as a YAML file or a checkpoint holds them."""
    config = _build(Config, tree, "")
    _check_across(config)
    return config


def to_dict(config: Any) -> dict[str, Any]:
    """Plain values that YAML, JSON and a checkpoint can hold; `from_dict` reads them back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (tuple, list)) else value

    return plain(dataclasses.asdict(config))


def dump(config: Config) -> str:
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True, default_flow_style=None, width=150)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = [key for i, key in enumerate(keys) if key in keys[:i]]
        if twice:
            raise UserError(f"the key {twice[0]!r} is written twice (line {node.start_mark.line + 1})")
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader: builds plain values only
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise UserError(f"{where} is not YAML that can be read: {' '.join(str(error).split())}") from None


def _read_with_base(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise UserError(f"{path}: its `base:` leads back to itself")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the config {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}"
        ) from None
    tree = _parse_yaml(text, str(path)) or {}
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds {type(tree).__name__}: a config is a table of keys")
    base = tree.pop("base", None)
    tree = aliases.rename(tree, str(path))
    if base is None:
        return tree
    if not isinstance(base, str):
        raise UserError(f"{path}: base is {base!r}: one path, relative to this file, is expected")
    return _merge(_read_with_base(path.parent / base, (*seen, path.resolve())), tree)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Sections are merged key by key, and imports are added; any other value, `body_parts` and its like too, is replaced whole."""
    out = dict(below)
    for key, value in above.items():
        merged = isinstance(value, dict) and isinstance(out.get(key), dict) and key in _SECTION_NAMES
        out[key] = _merge(out[key], value) if merged else value
        if key == "imports" and isinstance(value, list) and isinstance(below.get(key), list):
            out[key] = [*below[key], *(name for name in value if name not in below[key])]
    return out


def _build(section: type, tree: Any, path: str) -> Any:
    if not isinstance(tree, dict):
        raise UserError(
            f"{path} is {tree!r}: a section with keys is expected ({', '.join(f.name for f in dataclasses.fields(section))})"
        )
    hints, values = typing.get_type_hints(section), {}
    known = {f.name: f for f in dataclasses.fields(section)}
    for key, value in tree.items():
        name = f"{path}.{key}" if path else str(key)
        if key not in known:
            raise UserError(_unknown_key(name))
        if dataclasses.is_dataclass(hints[key]):
            values[key] = _build(hints[key], {} if value is None else value, name)
            continue
        if isinstance(value, str):
            value = aliases.VALUES.get(name, {}).get(value, value)
        values[key] = _convert(hints[key], value, name)
        low, high = known[key].metadata.get("low", -math.inf), known[key].metadata.get("high", math.inf)
        if isinstance(values[key], (int, float)) and not low <= values[key] <= high:
            limits = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise UserError(f"{name} is {values[key]:g}: {limits} is expected")
    return section(**values)


def _convert(kind: Any, value: Any, name: str) -> Any:
    """`value` as the type `kind`, or an error that says what is expected. YAML reads 1e-3 as text; here it is the number."""
    try:
        return _cast(kind, value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{name} is {value!r}: {_describe(kind)} is expected") from None


def _cast(kind: Any, value: Any) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        for choice in inner:
            try:
                return _cast(choice, value)
            except (TypeError, ValueError, OverflowError):
                continue
        raise ValueError
    if origin is Literal:
        if value in inner:
            return value
        raise ValueError
    if origin is dict:
        return {_cast(inner[0], k): _cast(inner[1], v) for k, v in dict(value).items()}
    if origin is tuple:
        if isinstance(value, str) or (inner[-1] is not Ellipsis and len(value) != len(inner)):
            raise ValueError
        return tuple(_cast(inner[0], v) for v in value)
    if kind is type(None):
        if value is None:
            return None
        raise ValueError
    if kind in (bool, str):
        if isinstance(value, kind):
            return value
        raise ValueError
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError
    number = float(value)
    if not math.isfinite(number) or (kind is int and number != int(number)):
        raise ValueError
    return int(number) if kind is int else number


def _describe(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(choice) for choice in inner)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in inner)
    if origin is dict:
        return f"a table of names to {_describe(inner[1])}"
    if origin is tuple:
        return f"a list of {_describe(inner[0])}" if inner[-1] is Ellipsis else f"{len(inner)} numbers in brackets"
    return {bool: "true or false", str: "text", int: "a whole number", float: "a number", type(None): "null"}[kind]


def _keys(section: type = Config, path: str = "") -> Iterable[str]:
    hints = typing.get_type_hints(section)
    for f in dataclasses.fields(section):
        yield path + f.name
        if dataclasses.is_dataclass(hints[f.name]):
            yield from _keys(hints[f.name], f"{path}{f.name}.")


_SECTION_NAMES = frozenset(
    name.rsplit(".")[-1] for name in _keys() if any(other.startswith(f"{name}.") for other in _keys())
)


def _unknown_key(name: str) -> str:
    """Nearest by the whole path, else by the last name alone (a key put into the wrong section)."""
    names = [*_keys(), *aliases.KEYS, *aliases.FIXED]
    by_last = {known.rsplit(".", 1)[-1]: known for known in _keys()}
    last = name.rsplit(".", 1)[-1]
    near = [by_last[last]] if last in by_last else difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    near = near or [by_last[hit] for hit in difflib.get_close_matches(last, by_last, n=1, cutoff=0.6)]
    return f"unknown key {name}" + (f": did you mean {near[0]}?" if near else ": configs/default.yaml lists every key")


def _check_across(config: Config) -> None:
    data = config.data
    if data.chunk_stride is not None and data.chunk_stride > data.chunk_len * data.window:
        raise UserError(
            f"data.chunk_stride is {data.chunk_stride}, longer than data.chunk_len {data.chunk_len}"
            + (f" x data.window {data.window}" if data.window > 1 else "")
            + ": frames would be left out"
        )
    if data.smooth == 1:
        raise UserError("data.smooth is 1: the filter of three taps changes nothing; 0 turns it off, 2 is the default")
    for module in config.imports:
        if module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
            raise UserError(
                f"imports holds {module!r}: the name of a module is expected, my_signs for a file my_signs.py"
            )
    if not config.experiment_name or "/" in config.experiment_name or config.experiment_name in (".", ".."):
        raise UserError(
            f"experiment_name is {config.experiment_name!r}: it names a folder, so letters, digits, - and _ are expected"
        )
