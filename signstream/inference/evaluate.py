"""Measures a tokenizer on a split: report.json, every number with its definition, and index.html, the same to look at.

    python -m signstream.inference.evaluate --checkpoint checkpoints/quickstart --split test [--out DIR] [--visualize] [--clips 10]
    python -m signstream.inference.evaluate --compare RUN_A RUN_B --out DIR
    torchrun --nproc_per_node=4 -m signstream.inference.evaluate --checkpoint PATH

Without --out: <run folder>/report. --visualize adds a player of some clips and their reconstructions. Without --config: the checkpoint's own config.
Numbers are sums over the split and do not depend on batches or ranks. docs/metrics.md says what each one is.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signstream import cli
from signstream.config import Config, load_config, to_dict
from signstream.errors import UserError
from signstream.inference.report.verdict import DEFINITIONS, verdict

if TYPE_CHECKING:
    from torch import Tensor

    from signstream.inference.report.measure import Found
    from signstream.inference.tokenizer import Tokenizer
    from signstream.io.pose_cache import PoseCache
    from signstream.skeleton import Skeleton
    from signstream.training.distributed import Ranks

MOST_POINTS = 400  # of a curve of training
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
)
CURVES = (
    "recon/weighted/local",
    "codes/worst/entropy",
    "codes/worst/used",
)  # of the numbers that have a / in their name


def evaluate(
    tokenizer: Tokenizer,
    config: Config,
    cache: PoseCache,
    split: str = "test",
    ranks: Ranks | None = None,
    about: Mapping[str, Any] | None = None,
    journal: Path | None = None,
) -> dict[str, Any]:
    """The report, on every rank. `config` says where the files are and how tokens are written; `about` is what is known of the run (name, checkpoint,
    step, epoch), `journal` its metrics.jsonl."""
    from copy import copy

    from signstream.inference.report.measure import latency, measure
    from signstream.training.distributed import Ranks
    from signstream.training.utils_tb import memory_used

    ranks, tokenizer, notes = ranks or Ranks(), copy(tokenizer), []
    clips = cache.splits[split] if split in cache.splits else cache.split(split)  # the latter says which there are
    if gone := [line for line in cache.skipped if line.split == split]:
        notes.append(f"data: {len(gone)} clips of the split were left out, the first: {gone[0].name}, {gone[0].reason}")
    if tokenizer.budget is None and tokenizer.codes_per_chunk != "full":
        tokenizer.codes_per_chunk = "full"
        notes.append("rate: the run had no validation split, so there is no budget: all levels are sent")
    found = measure(tokenizer, config, cache, clips, ranks)
    memory, report = max(ranks.collect(memory_used(ranks.device))), None
    if ranks.is_main:
        report = _about(tokenizer, config, split, found, sum(cache.clips[i].length for i in clips), ranks)
        report["run"] |= about or {}
        report |= _sections(tokenizer, cache, found, notes) if clips else dict.fromkeys(SECTIONS)
        report["efficiency"] = {}
        if clips:
            report["efficiency"] = {
                "clips_per_s": len(clips) / found.seconds,
                "frames_per_s": report["run"]["frames"] / found.seconds,
                "ms_per_chunk": latency(tokenizer, config, cache.clips[clips[0]]),
                "memory_bytes": memory,
            }
        report["training"] = training(journal)
        if report["training"] is None:
            notes.append("training: there is no metrics.jsonl beside the checkpoint")
        report = _plain({**report, "notes": notes})
        report["verdict"] = verdict(report)
    return ranks.broadcast(report)


def _about(tokenizer: Tokenizer, config: Config, split: str, found: Found, frames: int, ranks: Ranks) -> dict[str, Any]:
    """What the report says before any measurement."""
    parts, data, model = tokenizer.skeleton.parts, config.data, config.model
    run = {
        "name": config.experiment_name,
        "checkpoint": None,
        "tokenizer": tokenizer.digest,
        "step": None,
        "epoch": None,
        "split": split,
        "clips": len(found.clip.unique()),
        "chunks": len(found.clip),
        "frames": frames,
        "seconds": frames / data.fps,
        "parameters": sum(p.numel() for p in tokenizer.model.parameters()),
        "date": date.today().isoformat(),
        "machine": _machine(ranks),
        "arch": model.arch,
    }
    return {
        "format": 1,
        "run": run,
        "config": to_dict(config),
        "parts": [part.name for part in parts],
        "tags": {part.name: part.tag for part in parts},
        "levels": {part.name: levels for part, levels in zip(parts, tokenizer.levels)},
        "codebook_size": model.rvq.codebook_size,
        "chunk_len": data.chunk_len,
        "fps": data.fps,
        "definitions": {key: dict(zip(("unit", "what", "good"), line)) for key, line in DEFINITIONS.items()},
    }


def _sections(tokenizer: Tokenizer, cache: PoseCache, found: Found, notes: list[str]) -> dict[str, Any]:
    from signstream.models.metrics.dependence import mutual_information, stay

    parts, error = [part.name for part in tokenizer.skeleton.parts], found.errors["full"]
    signers = Counter(cache.clips[i].signer for i in found.clip.unique().tolist())

    def shares(values: Tensor) -> dict[str, list[float]]:
        """[P, Q] -> for each part a number for each level that it has."""
        return {part: row[:levels] for part, levels, row in zip(parts, tokenizer.levels, values.tolist())}

    sections = (
        _reconstruction(found, parts),
        _per_joint(error.by_joint(), tokenizer.skeleton),
        {
            signer or "unknown": {"clips": signers[signer], "local": errors.result().get("weighted/local")}
            for signer, errors in found.signers.items()
        },
        {part: values.tolist() for part, values in error.by_frame().items()},
        _smoothness(found, parts),
        _codebooks(found.codes, tokenizer, parts),
        {"names": parts, "bits": mutual_information(found.codes[..., 0]).tolist()},
        shares(stay(found.codes, found.clip, found.t)),
        {change: shares(values) for change, values in found.steady.items()},
        _meaning(tokenizer, cache, found, notes),
        _rate(tokenizer, found),
        _curve(tokenizer, found),
    )
    return dict(zip(SECTIONS, sections))


def _reconstruction(found: Found, parts: Sequence[str]) -> dict[str, dict[str, float | None]]:
    full, still, raw = (found.errors[name].result() for name in ("full", "mean pose", "raw"))
    names = ("local", "pixels", "huber", "mse", "mae", "rmse", "pck_0.05", "pck_0.1", "pck_0.2")
    return {
        part: {
            **{name: full.get(f"{part}/{name}") for name in names},
            "mean_pose": still.get(f"{part}/local"),
            "raw": raw.get(f"{part}/local"),
            "raw_pck_0.1": raw.get(f"{part}/pck_0.1"),
        }
        for part in (*parts, "weighted")
    }


def _per_joint(by_joint: Mapping[str, Tensor], skeleton: Skeleton) -> list[float | None]:
    """A joint's error in the smallest part that has it; a part's own centre has none, as errors are measured from there."""
    out: list[float | None] = [None] * skeleton.num_joints
    for part in sorted(skeleton.parts, key=len, reverse=True):
        out[part.joints] = by_joint[part.name].tolist() if part.name in by_joint else [None] * len(part)
    for part in skeleton.parts:
        out[part.centre] = None
    return out


def _smoothness(found: Found, parts: Sequence[str]) -> dict[str, dict[str, float | None]]:
    smooth, borders = found.smooth.result(), found.errors["full"].boundary_share()
    names = {
        "jump": "jump/reconstruction/mean",
        "jump_original": "jump/original/mean",
        "jump_p50": "jump/reconstruction/q50",
        "jump_p90": "jump/reconstruction/q90",
        "jump_p99": "jump/reconstruction/q99",
        "speed_error": "speed_error",
        "jerk": "jerk/reconstruction",
        "jerk_original": "jerk/original",
    }
    return {
        part: {
            **{ours: smooth.get(f"{part}/{theirs}") for ours, theirs in names.items()},
            "boundary_share": borders.get(part),
        }
        for part in parts
    }


def _codebooks(codes: Tensor, tokenizer: Tokenizer, parts: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    from signstream.models.metrics.codebook import CodebookUse

    use = CodebookUse(parts, tokenizer.levels, tokenizer.config.model.rvq.codebook_size)
    use.add(codes)
    found, names = use.result(), ("used", "dead", "perplexity", "entropy")
    return {
        part: [
            {
                **{name: found.get(f"codes/{part}/{q}/{name}") for name in names},
                "count": int(use.counts[p, q].sum()),
                "counts": use.counts[p, q].tolist(),
            }
            for q in range(tokenizer.levels[p])
        ]
        for p, part in enumerate(parts)
    }


def _rate(tokenizer: Tokenizer, found: Found) -> dict[str, Any]:
    cost, bits = found.cost, math.log2(tokenizer.config.model.rvq.codebook_size + 1)
    float32 = (
        cost["seconds"]
        * tokenizer.config.data.fps
        * tokenizer.skeleton.num_joints
        * 2
        * 32
        / max(cost["symbols"] * bits, 1)
    )
    held, sent = (found.errors[name].result().get("weighted/local") for name in ("held", "sent"))
    return {
        "codes_per_chunk": cost["codes"] / cost["chunks"],
        "symbols_per_chunk": cost["symbols"] / cost["chunks"],
        "bits_per_s": cost["symbols"] * bits / cost["seconds"],
        "held": cost["held"] / cost["part-chunks"],
        "compression_float32": float32,
        "compression_float16": float32 / 2,
        "hold_error": {"with": held, "without": sent},
    }


def _curve(tokenizer: Tokenizer, found: Found) -> list[dict[str, float | None]]:
    """A point for each number of codes that was sent here; the budget and the uniform way seldom meet in one, so most points have one of both."""
    bits, points = math.log2(tokenizer.config.model.rvq.codebook_size + 1), {}
    for name, codes in sorted(found.sent.items(), key=lambda item: item[1]):
        ways = {
            "full": ("uniform", "budget") if tokenizer.budget else ("uniform",),
            "first": ("uniform",),
            "budget": ("budget",),
            "sent": (),
        }
        point = points.setdefault(
            codes,
            {
                "codes_per_chunk": codes / found.cost["chunks"],
                "bits_per_s": codes * bits / found.cost["seconds"],
                "budget": None,
                "uniform": None,
            },
        )
        point |= dict.fromkeys(ways[name.split()[0]], found.errors[name].result().get("weighted/local"))
    return list(points.values())


def _meaning(tokenizer: Tokenizer, cache: PoseCache, found: Found, notes: list[str]) -> dict[str, Any] | None:
    import torch

    from signstream.models.metrics.meaning import agreement, bag_of_codes, choose, probe

    size, out = tokenizer.config.model.rvq.codebook_size, {}
    sets, latents = (
        {"clips": found.whole, "segments": found.segments},
        found.latents.split([len(found.whole), len(found.segments)]),
    )
    for (name, items), means in zip(sets.items(), latents):
        starts = torch.searchsorted(found.clip, torch.tensor([item.clip for item in items], dtype=torch.int64)).tolist()
        bag = bag_of_codes(
            found.codes, [(start + item.first, start + item.last) for start, item in zip(starts, items)], size
        )
        signers, clips = [cache.clips[item.clip].signer for item in items], [item.clip for item in items]
        out[name] = None
        for unseen, groups in (("signers", signers), ("clips", clips))[len(set(signers)) < 3 :]:
            if out[name] is None and (
                chosen := choose(bag, means, [item.glosses for item in items], groups, single=name == "segments")
            ):
                out[name] = probe(chosen) | {"unseen": unseen}
        if out[name] is None:
            notes.append(f"meaning: {len(items)} {name} have a gloss, too few of them one that another has too")
    if found.segments:  # the bag is theirs
        first = bag[:, : len(tokenizer.parts) * size]
        out["agreement"] = agreement(first, [item.glosses[0] for item in items], signers, clips)
    return out if any(out.values()) else None


def training(journal: Path | None) -> dict[str, dict[str, list]] | None:
    """The run's losses from its metrics.jsonl, thinned to MOST_POINTS."""
    if journal is None or not journal.exists():
        return None
    lines = [
        json.loads(line)
        for line in journal.read_text(encoding="utf-8").splitlines(keepends=True)
        if line.endswith("\n")
    ]
    out = {}
    for split in ("train", "val"):
        rows = [line for line in lines if line["split"] == split]
        rows = rows[:: -max(-(-len(rows) // MOST_POINTS), 1)][::-1]  # the last one stays
        names = {
            name for row in rows for name in row if "/" not in name or name.startswith("rec/") or name in CURVES
        } - {"split"}
        out[split] = {name: [row.get(name) for row in rows] for name in sorted(names)}
    return out if lines else None


def _machine(ranks: Ranks) -> str:
    import torch

    from signstream.training.distributed import physical_cores

    if ranks.device.type == "cuda":
        return f"{ranks.world} x {torch.cuda.get_device_name(ranks.device)}"
    return f"{physical_cores()} CPU cores, {ranks.world} process{'es' * (ranks.world > 1)}"


def _plain(value: Any) -> Any:
    """What JSON can hold: null for what is no number."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(out: Path, page: str, report: dict[str, Any] | None = None) -> Path:
    """index.html, and report.json where there is one; the page's path."""
    from signstream.training.checkpoint import write_whole

    out.mkdir(parents=True, exist_ok=True)
    if report is not None:
        text = json.dumps(report, allow_nan=False, indent=1)
        write_whole(out / "report.json", lambda file: file.write(text.encode()))
    write_whole(out / "index.html", lambda file: file.write(page.encode("utf-8", "backslashreplace")))
    return out / "index.html"


def run_checkpoint(args: argparse.Namespace) -> None:
    from signstream.inference.report.page import render
    from signstream.inference.report.player_data import make_player
    from signstream.inference.session import open_session
    from signstream.io.pose_cache import PoseCache
    from signstream.training import checkpoint as files

    path = files.best_of(args.checkpoint)
    state = files.load(path)
    folder = files.RunFolder(path.parent)
    with open_session(path, args.config, args.overrides) as (tokenizer, config, ranks):
        cache = PoseCache.open(config.data, quiet=not ranks.is_main)
        stamped = f" {path.parent.name}" if files.RUN_NAME.fullmatch(path.parent.name) else ""
        about = {
            "name": config.experiment_name + stamped,
            "checkpoint": path.name,
            "step": state["step"],
            "epoch": state.get("epoch"),
        }
        report = evaluate(tokenizer, config, cache, args.split, ranks, about, folder.metrics)

        def finish() -> None:
            player = make_player(tokenizer, cache, cache.splits[args.split], args.clips) if args.visualize else None
            page = write(args.out or path.parent / "report", render(report, player), report)
            for line in report["verdict"]:
                print(f"{line['grade']}: {line['text']}" + (f" {line['advice']}" if line["advice"] else ""))
            print(page, flush=True)

        ranks.from_main(finish)


def run_compare(runs: Sequence[str], out: Path | None) -> None:
    from signstream.inference.report.page import render_compare

    if out is None:
        raise UserError("--compare needs --out DIR, where the page goes")
    print(write(out, render_compare([find_report(run) for run in runs])), flush=True)


def find_report(run: str) -> dict[str, Any]:
    """The report of a run: its report.json, or a folder that has one, a run's or an experiment's (its newest run)."""
    from signstream.training.checkpoint import best_of

    path = Path(run)
    places = [path] if path.is_file() else [path / "report.json", path / "report" / "report.json"]
    if path.is_dir() and not any(place.exists() for place in places):
        places = [best_of(path).parent / "report" / "report.json"]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise UserError(
            f"{run} has no report.json: make it first, python -m signstream.inference.evaluate --checkpoint {run}"
        )
    try:
        report = json.loads(found.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{found} is no report: {error}") from None
    if not isinstance(report, dict) or report.get("format") != 1:
        raise UserError(f"{found} is no report of this version: make it anew with evaluate --checkpoint")
    return report


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m signstream.inference.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="a checkpoint, a run's folder, or an experiment's: its newest run"
    )
    parser.add_argument("--split", default="test", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="(default: report/ in the run's folder)")
    parser.add_argument(
        "--visualize", action="store_true", help="a player of some clips and their reconstructions in the page"
    )
    parser.add_argument("--clips", type=int, default=10, metavar="N", help="how many of them (default: %(default)s)")
    parser.add_argument("--compare", nargs="+", metavar="RUN", help="runs whose reports are put side by side instead")
    args = cli.parse_with_config(parser, argv)
    load_config(args.config, args.overrides)
    if args.out is not None and args.out.is_file():
        raise UserError(f"--out {args.out} is a file: name a folder")
    if args.clips < 1:
        raise UserError(f"--clips is {args.clips}: at least 1 is expected")
    if bool(args.compare) == bool(args.checkpoint):
        raise UserError("either --checkpoint PATH or --compare RUN RUN ... is needed")
    if args.compare:
        run_compare(args.compare, args.out)
    else:
        run_checkpoint(args)


if __name__ == "__main__":
    cli.run(main)
