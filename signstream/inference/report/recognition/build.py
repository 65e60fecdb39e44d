"""The report of a recogniser on a split: what it is of, every number with its definition, and what they say together.

report = build(clips, measured, ranks, config=config, about={"split": "test"})    # what report.json holds
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from signstream.config import to_dict
from signstream.config.recognition import RecognitionConfig
from signstream.data.datasets import open_data
from signstream.data.sources import PoseSequences
from signstream.inference.recognition.clips import SplitClips
from signstream.inference.report.as_filed import filed_clip
from signstream.inference.report.build import FORMAT, machine, training
from signstream.inference.report.recognition.definitions import DEFINITIONS
from signstream.inference.report.recognition.measure import Measured
from signstream.inference.report.recognition.sections import sections_of
from signstream.inference.report.recognition.verdict import RULES
from signstream.inference.report.verdict import verdict
from signstream.io.tables import finite
from signstream.training.distributed import Ranks
from signstream.training.speed import memory_used

TASK = "recognition"


def build(
    clips: SplitClips,
    measured: Measured,
    ranks: Ranks,
    *,
    config: RecognitionConfig,
    about: Mapping[str, Any],
    journal: Path | None = None,
) -> dict[str, Any]:
    """On every rank; `about` is what is known of the run and must name the split, `journal` its metrics.jsonl."""
    memory = max(ranks.collect(memory_used(ranks.device)))
    report = None
    if ranks.is_main:
        recogniser = clips.reader
        notes = _left_out(clips, about["split"])
        report = {
            "format": FORMAT,
            "task": TASK,
            "run": {**_run(clips, config, machine(ranks)), **about},
            "config": to_dict(config),
            "fps": clips.timing.fps,
            "glosses": len(recogniser.glosses) - 1,
            "definitions": {key: definition._asdict() for key, definition in DEFINITIONS.items()},
            **sections_of(measured.lines, recogniser.glosses, notes),
            "efficiency": _efficiency(clips, measured, config, memory=memory, notes=notes),
            "training": training(journal),
        }
        if report["training"] is None:
            notes.append("training: there is no metrics.jsonl beside the checkpoint")
        report = finite({**report, "notes": notes})
        report["verdict"] = verdict(report, RULES)
    return ranks.broadcast(report)


def _left_out(clips: SplitClips, split: str) -> list[str]:
    lines = [line for line in clips.sequences.skipped if line.split == split]
    first = f"{lines[0].name}, {lines[0].reason}" if lines else ""
    return [f"data: {len(lines)} clips of the split were left out, the first: {first}"] if lines else []


def _run(clips: SplitClips, config: RecognitionConfig, where: str) -> dict[str, Any]:
    recogniser, frames = clips.reader, sum(clip.frames for clip in clips.all)
    return {
        "name": config.experiment_name,
        "checkpoint": None,
        "recogniser": recogniser.digest,
        "tokenizer": recogniser.kept.tokenizer or None,
        "weights": recogniser.kept.chosen,
        "step": None,
        "epoch": None,
        "split": None,
        "clips": len(clips.all),
        "frames": frames,
        "seconds": frames / clips.timing.fps,
        "parameters": sum(p.numel() for p in recogniser.model.parameters()),
        "date": date.today().isoformat(),
        "machine": where,
        "source": recogniser.source,
        "mixer": config.model.mixer,
        "causal": recogniser.model.causal,
        "beam": config.decode.beam,
    }


def _efficiency(
    clips: SplitClips, measured: Measured, config: RecognitionConfig, *, memory: int, notes: list[str]
) -> dict[str, float | None]:
    frames = sum(clip.frames for clip in clips.all)
    latency = _latency(clips, config)
    if latency is None:
        notes.append("ms_per_frame: only a causal recogniser of keypoints can be live")
    return {
        "clips_per_s": len(clips.all) / measured.seconds,
        "frames_per_s": frames / measured.seconds,
        "ms_per_frame": latency,
        "memory_bytes": memory,
    }


def _latency(clips: SplitClips, config: RecognitionConfig) -> float | None:
    """Of the first clip, frame by frame; None: it cannot be live."""
    if not isinstance(clips.sequences, PoseSequences) or not clips.reader.model.causal:
        return None
    poses, fps = filed_clip(open_data(config.data), clips.sequences.cache.clips[clips.numbers[0]])
    stream = clips.reader.stream(fps)
    began = time.perf_counter()
    for frame in poses:
        stream.push(frame)
    stream.finish()
    return 1000 * (time.perf_counter() - began) / len(poses)
