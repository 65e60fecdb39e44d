"""A validation of the tokenizer as a person reads it: lines, samples of tokens, a clip beside its reconstruction."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from signstream.tasks.rvq.pictures import reconstruction_animation, reconstruction_sheet
from signstream.tasks.rvq.setup import Setup
from signstream.tasks.rvq.validation import Measured, Picture
from signstream.training.task import Findings


def findings_of(setup: Setup, measured: Measured, health: bool) -> Findings:
    numbers = measured.numbers
    lines = [headline(setup, numbers)]
    histograms = {}
    if health:
        lines += [*code_lines(numbers), *error_lines(setup, numbers), *collapse_lines(measured)]
        levels = measured.use.each_level()
        histograms = {f"use/{setup.parts[p]}/{q}": measured.use.counts[p, q] for p, q in levels}
    texts = {}
    if measured.samples:
        texts["tokens"] = "\n\n".join("\n".join((name, *rows)) for name, rows in measured.samples.items())
        name, rows = next(iter(measured.samples.items()))
        lines.append(f"tokens of {name}: {' '.join(rows[:2])}" + (" ..." if len(rows) > 2 else ""))
    picture = measured.picture if health else None
    return Findings(
        numbers,
        numbers.get("rec") if setup.quantising else None,
        lines,
        status=status(setup, numbers) if health else [],
        texts=texts,
        histograms=histograms,
        figures={"reconstruction": reconstruction_sheet(picture, setup.skeleton)} if picture else {},
        animations={"reconstruction": moving(setup, picture)} if picture else {},
    )


def headline(setup: Setup, numbers: dict[str, float]) -> str:
    terms = ", ".join(f"{name} {numbers[name]:.4g}" for name in setup.losses.terms.names if name in numbers)
    line = f"validation loss {numbers['loss']:.4g}, {terms}"
    if "recon/weighted/local" in numbers:
        line += f"; {numbers['recon/weighted/local']:.4f} shoulder widths"
    return line


def code_levels(numbers: dict[str, float]) -> list[str]:
    """ "codes/face/0", ..., and "codes/worst"; none while there are no codes."""
    return [name.rsplit("/", 1)[0] for name in numbers if name.startswith("codes/") and name.endswith("/perplexity")]


def status(setup: Setup, numbers: dict[str, float]) -> list[str]:
    levels = [level for level in code_levels(numbers) if level != "codes/worst"]
    if not levels:
        return []
    bits = sum(math.log2(numbers[f"{level}/perplexity"]) for level in levels) / len(levels)
    dead = sum(numbers[f"{level}/dead"] for level in levels) * setup.config.model.rvq.codebook_size
    return [f"entropy {bits:.2f} bits", f"dead {round(dead)}"]


def code_lines(numbers: dict[str, float]) -> list[str]:
    return [
        f"{level}: used {numbers[f'{level}/used']:.1%}, perplexity {numbers[f'{level}/perplexity']:.0f}, "
        f"entropy {numbers[f'{level}/entropy']:.3f} of the most, dead {numbers[f'{level}/dead']:.1%}"
        for level in code_levels(numbers)
    ]


def error_lines(setup: Setup, numbers: dict[str, float]) -> list[str]:
    lines = []
    told = None if setup.model.told is None else setup.parts[setup.model.told]
    for part in ("weighted", *setup.parts):
        error, mean_pose = numbers.get(f"recon/{part}/local"), numbers.get(f"mean_pose/{part}/local")
        if error is not None and mean_pose:
            called = part if part != told else f"{part}, put together from the others"
            lines.append(f"{called}: error {error:.4f} shoulder widths, {error / mean_pose:.1%} of the mean pose's")
    return lines


def collapse_lines(measured: Measured) -> list[str]:
    return [
        f"warning: the codebook of {part}, level {level}, is collapsing: raise model.rvq.usage_reg or "
        "model.rvq.revive_below, or lower train.lr"
        for part, level in measured.collapsed
    ]


def moving(setup: Setup, picture: Picture) -> bytes:
    """As a GIF."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reconstruction.gif"
        reconstruction_animation(picture, setup.skeleton, fps=setup.config.data.fps, path=path)
        return path.read_bytes()
