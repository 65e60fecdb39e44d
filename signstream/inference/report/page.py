"""The evaluation page: what evaluate.py measured, as one HTML file that opens from disk and asks nothing of a network.

    page = render(report, player)                  # player: the clips to look at, or None
    page = render_compare([report_a, report_b])    # the same tables, one column a run

`page/` holds the template, the style and the scripts; they and the data are put into one file. The browser runs and styles with
these alone: the page's security policy names them by their hashes, and all texts from data are set as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signstream.data.synthetic.body import KNUCKLES, PHALANGES
from signstream.data.synthetic.signer import neutral_face
from signstream.skeleton import COCO_WHOLEBODY, FACE, LEFT_HAND, NUM_JOINTS, RIGHT_HAND

FOLDER = Path(__file__).with_suffix("")
SCRIPTS = (
    "dom.js",
    "plots.js",
    "figure.js",
    "player.js",
    "ribbons.js",
    "codes.js",
    "report.js",
    "chapters.js",
    "compare.js",
    "main.js",
)
POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; base-uri 'none'; form-action 'none'"
)


def render(report: dict, player: dict | None = None) -> str:
    """One run's page: the verdict, the player where there is one, every table and plot."""
    return _page({"report": report, "player": player, "figure": error_figure()})


def render_compare(reports: Sequence[dict]) -> str:
    """Several runs side by side."""
    return _page({"compare": list(reports)})


def error_figure() -> dict:
    """Where the 133 joints are drawn when their colour is what matters: {"xy": [133][2], "bones": [[a, b]]}, face and hands far too large."""
    xy = np.zeros((NUM_JOINTS, 2))
    left = {
        1: (0.55, -0.62),
        3: (1.62, -0.3),
        5: (2.3, 2.5),
        7: (3.0, 4.2),
        9: (4.0, 2.9),
        11: (1.2, 6.0),
        13: (1.2, 7.8),
        15: (1.2, 9.5),
        17: (1.75, 9.9),
        18: (2.0, 9.7),
        19: (1.05, 9.85),
    }
    for joint, (x, y) in left.items():
        xy[joint], xy[COCO_WHOLEBODY.flip[joint]] = (x, y), (-x, y)
    xy[FACE:LEFT_HAND] = neutral_face()[:, :2] * 0.55
    xy[0] = xy[FACE + 30] + (0, 0.1)
    for eye, ring in ((1, slice(FACE + 42, FACE + 48)), (2, slice(FACE + 36, FACE + 42))):
        xy[eye] = xy[ring].mean(0)
    base = KNUCKLES[:, :2]
    away = base - (0, -0.35)
    away /= np.hypot(*away.T)[:, None]
    along = base[:, None] + away[:, None] * np.concatenate((np.zeros((5, 1)), PHALANGES.cumsum(1)), 1)[..., None]
    hand = np.concatenate((np.zeros((1, 2)), along.reshape(20, 2))) * (1.6, -1.6)
    xy[RIGHT_HAND:] = hand + np.array((-4.2, 2.6))
    xy[LEFT_HAND:RIGHT_HAND] = xy[RIGHT_HAND:] * (-1, 1)
    return {"xy": xy.round(3).tolist(), "bones": [list(bone) for bone in COCO_WHOLEBODY.bones]}


def _page(data: dict) -> str:
    style, script = _read("page.css"), '"use strict";\n' + "\n".join(_read(name) for name in SCRIPTS)
    fill = {
        "policy": POLICY.format(script=_digest(script), style=_digest(style)),
        "style": style,
        "script": script,
        "data": _json(data),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: fill[match[1]], _read("page.html"))


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: object) -> str:
    """JSON that may stand in an HTML script: ASCII alone, so no U+2028 either, and no `<`; what is no number becomes null."""
    return json.dumps(_finite(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _finite(data: object) -> object:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
