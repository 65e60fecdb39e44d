"""JSON in and out: a table that a user wrote, read strictly, and numbers made such that JSON has them.

read_table(path, expected) -> dict        finite(value) -> the same with null for what is no finite number
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signstream.errors import UserError
from signstream.text_files import read_text

LARGEST_TABLE = 1 << 27  # bytes; 100,000 clips with their segments have a third of that
TWICE = "duplicate name: two annotations that differ"


def read_table(path: Path, expected: str, within: Path | None = None) -> dict[str, Any]:
    """A JSON object, or one line that says what is wrong with it. TWICE is the value of a key that stands there with
    two tables or lists. `within`: the folder that links may not lead out of."""
    try:
        table = json.loads(read_text(path, most=LARGEST_TABLE, within=within), object_pairs_hook=_unique)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {expected} is expected there") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON that can be read: {error}") from None
    if not isinstance(table, dict):
        raise UserError(f"{path} holds a {type(table).__name__}: {expected} is expected")
    return table


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        differs = key in table and isinstance(value, (dict, list)) and value != table[key]
        table[key] = TWICE if differs else value
    return table


def finite(value: Any) -> Any:
    """Plain values as JSON can hold them: tables and lists go through item by item, a number that is not finite
    becomes null."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number
