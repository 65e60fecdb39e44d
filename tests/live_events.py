"""Made-up events of live runs, a data set that they are of, and what the report makes of them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from browsing import data_of
from clips import moving_clip
from data_sets import note, write_csl
from signstream.inference import live_report
from signstream.inference.report.live.events import read_events
from signstream.inference.report.live.meant import MeantClip
from signstream.inference.report.live.measure import measure

FRAMES = 60  # 2000 ms
SENTENCES = [
    {"start": 0, "end": 30, "text": "it rains", "gloss": "RAIN"},
    {"start": 36, "end": 60, "text": "sun shines", "gloss": "SUN"},
]
# consumed, elapsed, computing, committed, thought
STEPS = (
    (500, 510, 10, "", "it"),
    (1000, 1020, 20, "it", " snows"),
    (1500, 1530, 30, " rains", " moon"),
    (2000, 2040, 40, " sun shines", ""),
)
OTHER = tuple((*step[:3], text, "") for step, text in zip(STEPS, ("", "it", " moon", " sun")))


def lines_of(name: str, steps=STEPS, **last) -> list[dict]:
    keys = ("consumed", "elapsed", "computing", "committed", "thought")
    lines = [{"video_name": name, "chunk": i, **dict(zip(keys, step))} for i, step in enumerate(steps)]
    lines[-1] |= {"end": True, "signing": 2000} | last
    return lines


def write_events(path: Path, lines: list[dict], policy: str | None = None) -> Path:
    head = [] if policy is None else [{"header": True, "policy": policy, "checkpoint": "runs/x"}]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in [*head, *lines]), encoding="utf-8")
    return path


def make_place(folder: Path) -> Path:
    """long: a recording of two sentences; short: a clip of one."""
    clips = {name: moving_clip(FRAMES, i) for i, name in enumerate(("long", "short"))}
    between = [[30, 36, "pause"]]
    notes = {
        "long": note(clips["long"], text="it rains sun shines", sentences=SENTENCES, between=between, fps=30),
        "short": note(clips["short"], text="it rains sun shines", fps=30),
    }
    write_csl(folder / "data", clips, {"train": ["short"], "test": list(clips)}, notes)
    (folder / "live.yaml").write_text("task: prefix_lm\nmodel: {target_language: en_XX}\n")
    write_events(folder / "own.jsonl", [*lines_of("long"), *lines_of("short")], "own:0.5")
    late = tuple((*step[:3], "it rains sun shines" if i == 3 else "", "") for i, step in enumerate(STEPS))
    write_events(folder / "late.jsonl", [*lines_of("long", late), *lines_of("short", late)], "own:0.9")
    write_events(folder / "wait.jsonl", [*lines_of("long", OTHER), *lines_of("short", late)], "wait:3")
    write_events(folder / "shuffled.jsonl", [*lines_of("long", OTHER), *lines_of("short", OTHER)])
    return folder


def reported(place: Path, out: Path, *options: str, events: tuple[str, ...] = ("own.jsonl",)) -> dict:
    files = [str(place / name) for name in events]
    data = (f"data.root={place / 'data'}", f"data.cache={place / 'cache'}")
    live_report.main(["--config", str(place / "live.yaml"), *data, "--events", *files, "--out", str(out), *options])
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


def make_report(place: Path, out: Path) -> SimpleNamespace:
    """Of three runs and a control."""
    report = reported(
        place,
        out,
        *("--beside", f"shuffled={place / 'shuffled.jsonl'}"),
        events=("own.jsonl", "late.jsonl", "wait.jsonl"),
    )
    text = (out / "index.html").read_text(encoding="utf-8")
    return SimpleNamespace(out=out, report=report, text=text, data=json.loads(data_of(text)))


def measured(lines: list[dict], folder: Path, text: str = "it rains sun shines", *, language: str = "en_XX") -> Any:
    run = read_events(write_events(folder / "events.jsonl", lines))
    recording = SimpleNamespace(sentences=(), between=())
    return measure(run, {name: MeantClip(0, text, recording) for name in run.clips}, language)
