"""What one pass measured, as the report's sections: plain values, null where nothing could be measured.

sections_of(subject, measured, notes)    # {"recon": {...}, "per_joint": [...], ...}; notes gets why something is null,
                                         # and which part is not drawn
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from signstream.inference.report.items import Item
from signstream.inference.report.measure import Measured, Subject
from signstream.inference.report.signs import signs_section
from signstream.inference.tokenizer import Tokenizer
from signstream.models.metrics.codebook import CodebookUse
from signstream.models.metrics.dependence import mutual_information, stay
from signstream.models.metrics.meaning import agreement, bag_of_codes, choose, probe
from signstream.skeleton import Skeleton

SECTIONS = (
    "recon",
    "per_joint",
    "per_signer",
    "by_frame",
    "smooth",
    "codes",
    "mutual",
    "stay",
    "steady",
    "meaning",
    "rate",
    "curve",
    "signs",
)
RECON = ("local", "pixels", "huber", "mse", "mae", "rmse", "pck_0.05", "pck_0.1", "pck_0.2")
SMOOTH = {
    "jump": "jump/reconstruction/mean",
    "jump_original": "jump/original/mean",
    "jump_p50": "jump/reconstruction/q50",
    "jump_p90": "jump/reconstruction/q90",
    "jump_p99": "jump/reconstruction/q99",
    "speed_error": "speed_error",
    "jerk": "jerk/reconstruction",
    "jerk_original": "jerk/original",
}
USE = ("used", "dead", "perplexity", "entropy")
MOST_GLOSSES = 3  # of a code that tells
# What the first word of a way to send codes is, in the curve of rate against error.
SERIES = {"full": ("uniform", "budget"), "first": ("uniform",), "budget": ("budget",), "sent": ()}


def sections_of(subject: Subject, measured: Measured, notes: list[str]) -> dict[str, Any]:
    tokenizer = subject.tokenizer
    parts = [part.name for part in tokenizer.skeleton.parts]
    every_level = measured.errors["full"]

    def by_level(values: Tensor) -> dict[str, list[float]]:
        """[P, Q] -> for each part a number for each level that it has."""
        return {part: row[:levels] for part, levels, row in zip(parts, tokenizer.levels, values.tolist())}

    sections = {
        "recon": _reconstruction(measured, parts),
        "per_joint": _per_joint(every_level.by_joint(), tokenizer.skeleton),
        "per_signer": _per_signer(subject, measured),
        "by_frame": {part: values.tolist() for part, values in every_level.by_frame().items()},
        "smooth": _smoothness(measured, parts),
        "codes": _codebooks(measured.codes, tokenizer, parts),
        "mutual": {"names": parts, "bits": mutual_information(measured.codes[..., 0]).tolist()},
        "stay": by_level(stay(measured.codes, measured.clip, measured.t)),
        "steady": {change: by_level(values) for change, values in measured.steady.items()},
        "meaning": _meaning(subject, measured, notes),
        "rate": _rate(tokenizer, measured),
        "curve": _curve(tokenizer, measured),
        "signs": signs_section(measured.signs),
    }
    if sections["signs"] is None:
        notes.append("signs: only COCO-WholeBody's 133 joints say where palms, lips and brows are")
    if tokenizer.model.told is not None:
        told = parts[tokenizer.model.told]
        notes.append(f"tells: the codes of {told} tell what is signed and draw nothing; the other parts draw it")
    assert tuple(sections) == SECTIONS
    return sections


def _reconstruction(measured: Measured, parts: Sequence[str]) -> dict[str, dict[str, float | None]]:
    every_level, mean_pose, raw = (measured.errors[name].result() for name in ("full", "mean pose", "raw"))
    rows: dict[str, dict[str, float | None]] = {}
    for part in (*parts, "weighted"):
        rows[part] = {name: every_level.get(f"{part}/{name}") for name in RECON}
        rows[part]["mean_pose"] = mean_pose.get(f"{part}/local")
        rows[part]["raw"] = raw.get(f"{part}/local")
        rows[part]["raw_pck_0.1"] = raw.get(f"{part}/pck_0.1")
    return rows


def _per_joint(by_joint: Mapping[str, Tensor], skeleton: Skeleton) -> list[float | None]:
    """A joint's error in the smallest part that has it; a part's own centre has none, as errors are measured from
    there."""
    out: list[float | None] = [None] * skeleton.num_joints
    for part in sorted(skeleton.parts, key=len, reverse=True):
        out[part.joints] = by_joint[part.name].tolist() if part.name in by_joint else [None] * len(part)
    for part in skeleton.parts:
        out[part.centre] = None
    return out


def _per_signer(subject: Subject, measured: Measured) -> dict[str, dict[str, Any]]:
    clips = Counter(subject.cache.clips[i].signer for i in measured.clip.unique().tolist())
    return {
        signer or "unknown": {"clips": clips[signer], "local": errors.result().get("weighted/local")}
        for signer, errors in measured.signers.items()
    }


def _smoothness(measured: Measured, parts: Sequence[str]) -> dict[str, dict[str, float | None]]:
    smooth = measured.smooth.result()
    borders = measured.errors["full"].boundary_share()
    rows: dict[str, dict[str, float | None]] = {}
    for part in parts:
        rows[part] = {name: smooth.get(f"{part}/{source}") for name, source in SMOOTH.items()}
        rows[part]["boundary_share"] = borders.get(part)
    return rows


def _codebooks(codes: Tensor, tokenizer: Tokenizer, parts: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    use = CodebookUse(parts, tokenizer.levels, tokenizer.config.model.rvq.codebook_size)
    use.add(codes)
    numbers = use.result()

    def level(p: int, q: int) -> dict[str, Any]:
        row: dict[str, Any] = {name: numbers.get(f"codes/{parts[p]}/{q}/{name}") for name in USE}
        return row | {"count": int(use.counts[p, q].sum()), "counts": use.counts[p, q].tolist()}

    return {part: [level(p, q) for q in range(tokenizer.levels[p])] for p, part in enumerate(parts)}


def _bits(tokenizer: Tokenizer) -> float:
    """That a symbol takes."""
    return math.log2(tokenizer.config.model.rvq.codebook_size + 1)


def _rate(tokenizer: Tokenizer, measured: Measured) -> dict[str, Any]:
    cost, bits = measured.cost, _bits(tokenizer)
    coordinates = cost.seconds * tokenizer.config.data.fps * tokenizer.skeleton.num_joints * 2
    float32 = coordinates * 32 / max(cost.symbols * bits, 1)
    held, sent = (measured.errors[name].result().get("weighted/local") for name in ("held", "sent"))
    return {
        "codes_per_chunk": cost.codes / cost.chunks,
        "symbols_per_chunk": cost.symbols / cost.chunks,
        "bits_per_s": cost.symbols * bits / cost.seconds,
        "held": cost.held / cost.part_chunks,
        "compression_float32": float32,
        "compression_float16": float32 / 2,
        "hold_error": {"with": held, "without": sent},
    }


def _curve(tokenizer: Tokenizer, measured: Measured) -> list[dict[str, float | None]]:
    """A point for each number of codes that was sent; the budget and the uniform way seldom meet in one, so most points
    have one of both."""
    points: dict[float, dict[str, float | None]] = {}
    for name, codes in sorted(measured.sent.items(), key=lambda item: item[1]):
        start = {
            "codes_per_chunk": codes / measured.cost.chunks,
            "bits_per_s": codes * _bits(tokenizer) / measured.cost.seconds,
            "budget": None,
            "uniform": None,
        }
        point = points.setdefault(codes, start)
        kind = name.split()[0]
        series = ("uniform",) if kind == "full" and tokenizer.budget is None else SERIES[kind]
        point |= dict.fromkeys(series, measured.errors[name].result().get("weighted/local"))
    return list(points.values())


def _meaning(subject: Subject, measured: Measured, notes: list[str]) -> dict[str, Any] | None:
    whole, segments = measured.items
    size = subject.tokenizer.config.model.rvq.codebook_size
    out: dict[str, Any] = {}
    for name, items, rows in (("clips", whole, slice(len(whole))), ("segments", segments, slice(len(whole), None))):
        bag = bag_of_codes(measured.codes, _spans(items, measured.clip), size)
        signers = [subject.cache.clips[item.clip].signer for item in items]
        features = {"codes": bag, **{kind: values[rows] for kind, values in measured.described.items()}}
        out[name] = _probed(features, items, signers=signers, single=name == "segments")
        if out[name] is None:
            notes.append(f"meaning: {len(items)} {name} have a gloss, too few of them one that another has too")
        if name == "segments" and items:
            first_level = bag[:, : len(subject.tokenizer.parts) * size]
            glosses = [item.glosses[0] for item in items]
            out["agreement"] = agreement(first_level, glosses, signers, clip=[item.clip for item in items])
            if (told := subject.tokenizer.model.told) is not None:
                out["told"] = glosses_told(measured.codes[:, told, 0], items, measured.clip)
    return out if any(out.values()) else None


def glosses_told(codes: Tensor, items: Sequence[Item], clip: Tensor) -> dict[str, list[list[Any]]]:
    """codes [N] of the part that tells -> {code: its most frequent glosses, each with its chunks}."""
    counts: dict[int, Counter[str]] = {}
    for item, (first, last) in zip(items, _spans(items, clip)):
        for code in codes[first:last].tolist():
            counts.setdefault(code, Counter())[item.glosses[0]] += 1
    counts.pop(-1, None)
    return {str(code): [list(pair) for pair in counts[code].most_common(MOST_GLOSSES)] for code in sorted(counts)}


def _spans(items: Sequence[Item], clip: Tensor) -> list[tuple[int, int]]:
    """Where the items' chunks lie among all, clip [N] rising: the first row, and one past the last."""
    starts = torch.searchsorted(clip, torch.tensor([item.clip for item in items], dtype=torch.int64)).tolist()
    return [(start + item.first, start + item.last) for start, item in zip(starts, items)]


def _probed(
    features: Mapping[str, Tensor], items: Sequence[Item], *, signers: Sequence[str], single: bool
) -> dict[str, Any] | None:
    """The probe's scores on signers that it has not seen; on clips, where too few signers share glosses."""
    glosses = [item.glosses for item in items]
    unseen: list[tuple[str, Sequence[Any]]] = [("clips", [item.clip for item in items])]
    if len(set(signers)) >= 3:
        unseen.insert(0, ("signers", signers))
    for kind, kept_together in unseen:
        chosen = choose(features, glosses, groups=kept_together, single=single)
        if chosen is not None:
            return probe(chosen) | {"unseen": kind}
    return None
