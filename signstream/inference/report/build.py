"""The report of a tokenizer on a split: what it is of, every number with its definition, and what they say together.

report = evaluate(Subject(tokenizer, config, cache), "test")      # plain values, as report.json holds them
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import copy
from datetime import date
from pathlib import Path
from typing import Any

import torch

from signstream.config import to_dict
from signstream.inference.report.definitions import DEFINITIONS
from signstream.inference.report.measure import Measured, Subject, latency, measure
from signstream.inference.report.sections import SECTIONS, sections_of
from signstream.inference.report.verdict import verdict
from signstream.inference.tokenizer import Tokenizer
from signstream.io.tables import finite
from signstream.training.distributed import Ranks, physical_cores
from signstream.training.speed import memory_used

FORMAT = 1  # of report.json
MOST_POINTS = 400  # of a curve of training
# of the numbers that have a / in their name
CURVES = ("recon/weighted/local", "codes/worst/entropy", "codes/worst/used")


def evaluate(
    subject: Subject,
    split: str = "test",
    ranks: Ranks | None = None,
    *,
    about: Mapping[str, Any] | None = None,
    journal: Path | None = None,
    judge: Callable[[Tokenizer], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The report, on every rank; `about` is what is known of the run (name, checkpoint, step, epoch), `journal` its
    metrics.jsonl, `judge` what makes the section of that name, of the tokenizer as it sends (judged.py)."""
    ranks = ranks or Ranks()
    cache = subject.cache
    clips = cache.splits[split] if split in cache.splits else cache.split(split)  # the latter says which there are
    notes: list[str] = []
    if left_out := [line for line in cache.skipped if line.split == split]:
        first = f"{left_out[0].name}, {left_out[0].reason}"
        notes.append(f"data: {len(left_out)} clips of the split were left out, the first: {first}")
    subject = _affordable(subject, notes)
    measured = measure(subject, clips, ranks)
    memory = max(ranks.collect(memory_used(ranks.device)))
    judged = judge(subject.tokenizer) if judge is not None else None
    report = None
    if ranks.is_main:
        report = _header(subject, split, measured, ranks=ranks)
        report["run"] |= about or {}
        report |= sections_of(subject, measured, notes) if clips else dict.fromkeys(SECTIONS)
        report["efficiency"] = _efficiency(subject, clips, measured, memory=memory) if clips else {}
        report["judge"] = judged
        report["training"] = training(journal)
        if report["training"] is None:
            notes.append("training: there is no metrics.jsonl beside the checkpoint")
        report = finite({**report, "notes": notes})
        report["verdict"] = verdict(report)
    return ranks.broadcast(report)


def _affordable(subject: Subject, notes: list[str]) -> Subject:
    """With a tokenizer that sends all levels, where there is no budget."""
    tokenizer = copy(subject.tokenizer)
    if tokenizer.budget is None and tokenizer.codes_per_chunk != "full":
        tokenizer.codes_per_chunk = "full"
        notes.append("rate: the run had no validation split, so there is no budget: all levels are sent")
    return subject._replace(tokenizer=tokenizer)


def _header(subject: Subject, split: str, measured: Measured, *, ranks: Ranks) -> dict[str, Any]:
    """What the report says before any measurement."""
    tokenizer, config, cache = subject
    parts, told = tokenizer.skeleton.parts, tokenizer.model.told
    frames = sum(cache.clips[i].length for i in cache.splits[split])
    run = {
        "name": config.experiment_name,
        "checkpoint": None,
        "tokenizer": tokenizer.digest,
        "step": None,
        "epoch": None,
        "split": split,
        "clips": len(measured.clip.unique()),
        "chunks": len(measured.clip),
        "frames": frames,
        "seconds": frames / config.data.fps,
        "parameters": sum(p.numel() for p in tokenizer.model.parameters()),
        "date": date.today().isoformat(),
        "machine": machine(ranks),
        "arch": config.model.arch,
    }
    return {
        "format": FORMAT,
        "run": run,
        "config": to_dict(config),
        "parts": [part.name for part in parts],
        "tags": {part.name: part.tag for part in parts},
        "tells": None if told is None else parts[told].name,  # what is signed: it is drawn by the other parts
        "levels": {part.name: levels for part, levels in zip(parts, tokenizer.levels)},
        "codebook_size": config.model.rvq.codebook_size,
        "chunk_len": config.data.chunk_len,
        "fps": config.data.fps,
        "definitions": {key: definition._asdict() for key, definition in DEFINITIONS.items()},
    }


def _efficiency(subject: Subject, clips: list[int], measured: Measured, *, memory: int) -> dict[str, float]:
    tokenizer, config, cache = subject
    frames = sum(cache.clips[i].length for i in clips)
    return {
        "clips_per_s": len(clips) / measured.seconds,
        "frames_per_s": frames / measured.seconds,
        "ms_per_chunk": latency(tokenizer, config, cache.clips[clips[0]]),
        "memory_bytes": memory,
    }


def training(journal: Path | None) -> dict[str, dict[str, list[Any]]] | None:
    """The run's losses from its metrics.jsonl, thinned to MOST_POINTS."""
    if journal is None or not journal.exists():
        return None
    lines = journal_lines(journal)
    curves = {}
    for split in ("train", "val"):
        rows = [line for line in lines if line["split"] == split]
        rows = rows[:: -max(-(-len(rows) // MOST_POINTS), 1)][::-1]  # the last one stays
        names = {name for row in rows for name in row if "/" not in name or name.startswith("rec/") or name in CURVES}
        curves[split] = {name: [row.get(name) for row in rows] for name in sorted(names - {"split"})}
    return curves if lines else None


def journal_lines(journal: Path) -> list[dict[str, Any]]:
    """What can be read of it: a line that was cut short, or damaged, is passed over."""
    lines = []
    for text in journal.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("split"), str):
            lines.append(line)
    return lines


def machine(ranks: Ranks) -> str:
    """What it ran on."""
    if ranks.device.type == "cuda":
        return f"{ranks.world} x {torch.cuda.get_device_name(ranks.device)}"
    return f"{physical_cores()} CPU cores, {ranks.world} process{'es' * (ranks.world > 1)}"
