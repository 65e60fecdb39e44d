"""The evaluation page: what evaluate measured, as one HTML file that opens from disk and asks nothing of a network.

    page = render(report, player)                  # player: the clips to look at, or None
    page = render_compare([report_a, report_b])    # the same tables, one column a run
    page = render_recognition(report, player, looks)  # a recogniser's
    page = render_translation(report, sentences)      # a translator's
    page = render_live(report, player, plot)          # of live runs
    page = render_signing(player)                     # of who signs now (inference/live_page/)

`page/` holds the template, the style and the scripts; they and the data are put into one file. The browser runs and
styles with these alone: the page's security policy names them by their hashes, and all texts from data are set as
text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from signstream.inference.report.joint_map import joint_map
from signstream.io.tables import finite

FOLDER = Path(__file__).with_suffix("")
COMMON = ("dom.js", "plots.js", "figure.js", "player.js")
TOKENIZER = (*COMMON, "ribbons.js", "codes.js", "report.js", "signs.js", "chapters.js", "compare.js", "main.js")
RECOGNITION = (
    *COMMON,
    *("chapters.js", "glosses.js", "recognition.js"),
    *("compare.js", "recognition_compare.js", "recognition_main.js"),
)
TRANSLATION = (*COMMON, "sentences.js", "translation.js")
LIVE = (*COMMON, "sentences.js", "captions.js", "live_player.js", "live.js")
SIGNING = (
    "dom.js",
    "figure.js",
    "player.js",
    "ribbons.js",
    "captions.js",
    "signing.js",
    "camera.js",
    "signing_main.js",
)
POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; base-uri 'none'; form-action 'none'"
)


def render(report: dict[str, Any], player: dict[str, Any] | None = None) -> str:
    """One run's page: the verdict, the player where there is one, every table and plot."""
    return _page({"report": report, "player": player, "figure": joint_map()}, TOKENIZER)


def render_compare(reports: Sequence[dict[str, Any]]) -> str:
    """Several runs of one task side by side."""
    scripts = RECOGNITION if task_of(reports[0]) == "recognition" else TOKENIZER
    return _page({"compare": list(reports)}, scripts)


def task_of(report: dict[str, Any]) -> str:
    """A tokenizer's report does not say it."""
    task: str = report.get("task", "rvq")
    return task


def render_recognition(
    report: dict[str, Any], player: dict[str, Any] | None = None, moments: Sequence[dict[str, Any] | None] = ()
) -> str:
    """A recogniser's page; `moments`: what its confused glosses look like."""
    return _page({"report": report, "player": player, "moments": list(moments)}, RECOGNITION)


def render_translation(report: dict[str, Any], sentences: dict[str, Any]) -> str:
    return _page({"report": report, "sentences": sentences}, TRANSLATION)


def render_live(report: dict[str, Any], player: dict[str, Any], plot: str | None = None) -> str:
    """`plot`: a picture as a data URI."""
    return _page({"report": report, "player": player, "plot": plot}, LIVE)


def render_signing(player: dict[str, Any]) -> str:
    """The page of who signs now, which asks the server that it came from."""
    return _page({"player": player}, SIGNING, f"{POLICY}; connect-src 'self'")


def _page(data: dict[str, Any], scripts: Sequence[str], policy: str = POLICY) -> str:
    style = _read("page.css")
    script = '"use strict";\n' + "\n".join(_read(name) for name in scripts)
    fill = {
        "policy": policy.format(script=_digest(script), style=_digest(style)),
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
    """JSON that may stand in an HTML script: ASCII alone, so no U+2028 either, and no `<`; what is no number becomes
    null."""
    return json.dumps(finite(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
