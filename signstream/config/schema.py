"""Frozen dataclasses from plain values and back: types cast, limits held, one line for what does not fit.

    @dataclass(frozen=True)
    class Data:
        root: str = "./signs"
        fps: float = option(30.0, low=1e-3)

    build(Data, {"fps": 25}) -> Data(root="./signs", fps=25.0)

A section is such a class; a field whose type is another one is a section inside it, and `a.b` is the path of an option.
A method `check` of a section says what limits cannot. This knows no option, and nothing of ours but UserError.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from signstream.errors import MOST_SHOWN, UserError, odd_character, one_line
from signstream.errors import shown as quoted

DEEPEST = 16  # levels of a config: ours have 4
MOST_VALUES = 20_000  # of a config: ours have 100

Section = TypeVar("Section")
Wording = Callable[[str], str]  # what is said of a path that there is not


class Option(NamedTuple):
    """A field of a section."""

    kind: Any  # its type
    default: Any
    metadata: Mapping[str, Any]

    @property
    def is_section(self) -> bool:
        return dataclasses.is_dataclass(self.kind)


class Value(NamedTuple):
    """An option of a config, by its path, and what it is set to."""

    path: str
    value: Any
    option: Option
    section: Any  # the object that it stands in


def option(
    default: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    idle: Mapping[str, tuple[Any, ...]] | None = None,
    names: str | None = None,
    added: bool = False,
) -> Any:
    """A field with limits. `idle`: neighbours, and their values under which, all together, nothing reads this option.
    `names`: its value (or each of its keys) is the name of a class of this kind. `added`: a list that files add to."""
    metadata = {"low": low, "high": high, "idle": idle or {}, "names": names, "added": added}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def options(section: type) -> dict[str, Option]:
    """The fields of a section, by name."""
    hints = _hints(section)
    return {field.name: _option(hints[field.name], field) for field in dataclasses.fields(_dataclass(section))}


@functools.cache
def _hints(section: type) -> dict[str, Any]:
    """Evaluated once: they are text in the class, and a config is gone over many times."""
    return typing.get_type_hints(section)


def _option(kind: Any, field: dataclasses.Field[Any]) -> Option:
    if isinstance(field.default_factory, types.FunctionType | type):
        return Option(kind, field.default_factory(), field.metadata)
    return Option(kind, field.default, field.metadata)


def _dataclass(section: type) -> Any:
    if not dataclasses.is_dataclass(section):
        raise TypeError(f"{section.__name__} is no dataclass")
    return section


def keys(section: type, path: str = "") -> Iterator[str]:
    """The paths of all sections and options."""
    for name, entry in options(section).items():
        yield path + name
        if entry.is_section:
            yield from keys(entry.kind, f"{path}{name}.")


def values(config: Any, path: str = "") -> Iterator[Value]:
    """All options of a config."""
    for name, entry in options(type(config)).items():
        value = getattr(config, name)
        if entry.is_section:
            yield from values(value, f"{path}{name}.")
        else:
            yield Value(path + name, value, entry, config)


def plain(config: Any) -> dict[str, Any]:
    """Values that YAML, JSON and a checkpoint can hold."""
    return _plain(dataclasses.asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (tuple, list)) else value


# -- from plain values


def check_size(tree: Any, where: str, most: int = MOST_VALUES) -> None:
    """That plain values are no more than `most` and nested no deeper than DEEPEST, counted as often as they are
    repeated: what is shared, or stands inside itself, takes little room, and any amount of time."""
    count = 0
    level = [tree]
    for _ in range(DEEPEST + 1):
        inner: list[Any] = []
        for value in level:
            inner += [*value, *value.values()] if isinstance(value, dict) else value if _is_list(value) else ()
            if count + len(inner) > most:
                raise UserError(f"{where} has more than {most} values, its aliases written out")
        count += len(inner)
        level = inner
    if level:
        raise UserError(f"{where} is nested deeper than {DEEPEST} levels")


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset))


def build(section: type[Section], tree: Any, path: str = "", *, unknown: Wording | None = None) -> Section:
    """A checked section. `unknown` words the error for a path that there is not."""
    fields = options(section)
    if not isinstance(tree, dict):
        raise UserError(f"{path} is {quoted(tree)}: a section with keys is expected ({', '.join(fields)})")
    made = {}
    for key, value in tree.items():
        name = f"{path}.{key}" if path else str(key)
        if key not in fields:
            name = one_line(name, MOST_SHOWN)
            raise UserError(unknown(name) if unknown else f"unknown key {name}")
        if fields[key].is_section:
            made[key] = build(fields[key].kind, {} if value is None else value, name, unknown=unknown)
        else:
            made[key] = _convert(fields[key].kind, value, name)
            _hold_limits(made[key], fields[key].metadata, name)
    config = section(**made)
    check = getattr(config, "check", None)
    if check is not None:
        check()
    return config


def _hold_limits(value: Any, metadata: Mapping[str, Any], name: str) -> None:
    low, high = metadata.get("low", -math.inf), metadata.get("high", math.inf)
    if isinstance(value, (int, float)) and not low <= value <= high:
        limits = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise UserError(f"{name} is {_written(value)}: {limits} is expected")


def _convert(kind: Any, value: Any, name: str) -> Any:
    """`value` as the type `kind`, or an error that says what is expected. To YAML 1e-3 is text."""
    try:
        return _cast(kind, value)
    except (TypeError, ValueError, OverflowError):
        odd = odd_character(value) if isinstance(value, str) else None
        without = f" without the character {odd}" if odd else ""
        raise UserError(f"{name} is {quoted(value)}: {_describe(kind)}{without} is expected") from None


def _cast(kind: Any, value: Any) -> Any:
    """What does not fit raises TypeError, ValueError or OverflowError."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if _is_union(origin):
        return _first_that_fits(inner, value)
    if origin is Literal:
        value = "off" if value is False else value  # as YAML reads a bare off
        return _demand(value in inner, value)
    if origin is dict:
        return {_cast(inner[0], key): _cast(inner[1], each) for key, each in dict(value).items()}
    if origin is tuple:
        _demand(not isinstance(value, str) and (inner[-1] is Ellipsis or len(value) == len(inner)), value)
        return tuple(_cast(inner[0], each) for each in value)
    if kind is type(None):
        return _demand(value is None, value)
    if kind is bool:
        return _demand(isinstance(value, bool), value)
    if kind is str:
        return _demand(isinstance(value, str) and not odd_character(value), value)
    return _number(kind, value)


def _is_union(origin: Any) -> bool:
    return origin in (typing.Union, types.UnionType)


def _demand(fits: bool, value: Any) -> Any:
    if not fits:
        raise ValueError
    return value


def _first_that_fits(kinds: Iterable[Any], value: Any) -> Any:
    for kind in kinds:
        try:
            return _cast(kind, value)
        except (TypeError, ValueError, OverflowError):
            continue
    raise ValueError


def _number(kind: type, value: Any) -> int | float:
    _demand(isinstance(value, (int, float, str)) and not isinstance(value, bool), value)
    number = float(value)
    _demand(math.isfinite(number) and (kind is not int or number == int(number)), value)
    return int(number) if kind is int else number


def _describe(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if _is_union(origin):
        return " or ".join(_describe(choice) for choice in inner)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in inner)
    if origin is dict:
        return f"a table of names to {_describe(inner[1])}"
    if origin is tuple:
        return f"a list of {_describe(inner[0])}" if inner[-1] is Ellipsis else f"{len(inner)} numbers in brackets"
    return {bool: "true or false", str: "text", int: "a whole number", float: "a number", type(None): "null"}[kind]


# -- what is wrong with a whole


def nearest(name: str, known: Iterable[str], others: Iterable[str] = ()) -> str | None:
    """The right name that was meant: by the whole path, that of `others` too, else by the last name alone, as of a key
    that was put into the wrong section."""
    known = list(known)
    by_last = {path.rsplit(".", 1)[-1]: path for path in known}
    last = name.rsplit(".", 1)[-1]
    if last in by_last:
        return by_last[last]
    near = difflib.get_close_matches(name, [*known, *others], n=1, cutoff=0.7)
    near = near or [by_last[match] for match in difflib.get_close_matches(last, by_last, n=1, cutoff=0.6)]
    return near[0] if near else None


def check_idle(config: Any, before: Any) -> None:
    """That no option is set in vain: none that differs from what it was `before`, and from its default, stands beside
    neighbours that make it idle."""
    earlier = {entry.path: entry.value for entry in values(before)}
    for path, value, entry, section in values(config):
        idle = entry.metadata.get("idle") or {}
        if not idle or value in (earlier.get(path), entry.default):
            continue
        if all(getattr(section, name) in only for name, only in idle.items()):
            room = path.rpartition(".")[0]
            why = " and ".join(f"{room}.{name} {shown(getattr(section, name))}" for name in idle)
            change = " or ".join(f"{room}.{name}" for name in idle)
            raise UserError(
                f"{path} is {shown(value)}, but with {why} nothing reads it: "
                f"leave it out ({shown(entry.default)}), or change {change}"
            )


def shown(value: Any) -> str:
    """As a config file would write it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return _written(value) if isinstance(value, float) else quoted(value) if not isinstance(value, str) else value


def _written(value: float) -> str:
    return f"{value:g}"
