"""Reads what a data set's README states as facts (array shape, frame rate, joint ranges, centres, unit joints) and
holds it against the config.

    parse_readme(read_readme(path)) -> ReadmeFacts
    check_readme(facts, config.data, path): ValueError where the two contradict

The README is prose for people, so a fact is looked for by its words and a fact that is not found is not checked.
Joints count from 1, as READMEs count them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from signstream import skeleton
from signstream.errors import UserError
from signstream.text_files import read_text

if TYPE_CHECKING:  # data.synthetic, which needs no yaml, knows a README's name from here
    from signstream.config import Poses

README_NAME = "CSL-Daily_README.md"
LARGEST_README = 1 << 20  # bytes
_PART_WORDS = {
    "face": "face",
    "left_hand": "left[ _-]hand",
    "right_hand": "right[ _-]hand",
    "body": "(?<!full[ _-])(?<!whole[ _-])(?<!upper[ _-])(?<!lower[ _-])body",
}
# Every repetition is bounded and spaces come one at a time, so no line takes long, whatever it holds.
_LEAD = r"(?: (?:joints?|keypoints?|landmarks?|points?))?[ :|=]{0,3}"
# "24, 91" in brackets only.
_RANGE = _LEAD + r"(?P<open>[\[(])? ?(?P<first>\d{1,6}) ?(?:-|–|—|to|~|(?(open),|-)) ?(?P<last>\d{1,6})(?!\d)"
_JOINT = _LEAD + r"(\d{1,6})(?!\d| ?(?:-|–|—|to|~|,) ?\d)"
_RATE = r"(?<![\d.])(\d{1,6}(?:\.\d{1,6})?)"


@dataclass(frozen=True)
class ReadmeFacts:
    shape: tuple[int, int] | None = None  # rows a frame, channels
    fps: float | None = None
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    centers: dict[str, int] = field(default_factory=dict)
    unit_joints: tuple[tuple[int, int], ...] = ()


def read_readme(path: Path, within: Path | None = None) -> str:
    """Its text, whatever the encoding; `within`: the folder that links may not lead out of."""
    try:
        return read_text(path, most=LARGEST_README, within=within, errors="replace")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def parse_readme(text: str) -> ReadmeFacts:
    text = re.sub(r"[^\S\n]+", " ", text.lower().replace("**", "").replace("`", ""))
    shape = re.search(r"\[ ?t ?, ?(\d{1,6}) ?, ?(\d{1,6}) ?\]", text)
    ranges: dict[str, tuple[int, int]] = {}
    centers: dict[str, int] = {}
    units: list[tuple[int, int]] = []
    for line in filter(None, text.split("\n")):
        about_centre = re.search(r"\bcent(?:re|er)", line)
        for name, words in _PART_WORDS.items():
            span = re.search(rf"\b{words}{_RANGE}", line)
            if span and not about_centre and name not in ranges:
                ranges[name] = (int(span["first"]), int(span["last"]))
            joint = re.search(rf"\b{words}{_JOINT}", line)
            if joint and about_centre and name not in centers:
                centers[name] = int(joint[1])
        eyes = re.finditer(rf"\beye(?: corners?| width)?{_RANGE}", line)
        units += [(int(eye["first"]), int(eye["last"])) for eye in eyes]
    return ReadmeFacts(
        shape=(int(shape[1]), int(shape[2])) if shape else None,
        fps=_frame_rate(text),
        ranges=ranges,
        centers=centers,
        unit_joints=tuple(dict.fromkeys(units)),
    )


def _frame_rate(text: str) -> float | None:
    before = re.search(rf"{_RATE} ?(?:fps|frames (?:per|a) second)", text)
    fps = before or re.search(rf"\b(?:fps|frame rate)(?: is| of)?[ :=]{{0,3}}{_RATE}", text)
    return (float(fps[1]) or None) if fps else None


def check_readme(facts: ReadmeFacts, data: Poses, path: Path) -> None:
    """Raises with both values at the first thing that the README and the config state differently."""

    def contradiction(key: str, configured: object, stated: object) -> UserError:
        return UserError(f"{path} says {stated} and the config's {key} is {configured}: correct the one that is wrong")

    if facts.shape and facts.shape[0] not in (data.num_joints, data.num_joints + 1):
        raise contradiction("data.num_joints", data.num_joints, f"[T, {facts.shape[0]}, {facts.shape[1]}]")
    if facts.fps and abs(facts.fps / data.fps - 1) > 0.01:
        raise contradiction("data.fps", f"{data.fps:g}", f"{facts.fps:g} frames a second")
    for name, (first, last) in facts.ranges.items():
        if name in data.body_parts and tuple(data.body_parts[name]) != (first, last):
            raise contradiction(f"data.body_parts.{name}", list(data.body_parts[name]), f"{name} {first}-{last}")
    body = skeleton.build(
        data.num_joints,
        data.body_parts,
        data.centers,
        unit_joints=data.unit_joints,
        mirror_pairs=data.mirror_pairs,
    )
    for part in body.parts:
        if facts.centers.get(part.name, part.centre + 1) != part.centre + 1:
            raise contradiction(
                f"data.centers.{part.name}", part.centre + 1, f"the centre of {part.name} is {facts.centers[part.name]}"
            )
    unit_joints = {(a + 1, b + 1) for a, b in body.unit_pairs}
    if facts.unit_joints and not unit_joints & set(facts.unit_joints):
        stated = f"eyes {', '.join(f'{a}-{b}' for a, b in facts.unit_joints)}"
        raise contradiction("data.unit_joints", sorted(unit_joints), stated)
