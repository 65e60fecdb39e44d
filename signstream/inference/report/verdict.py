"""What the numbers of a report mean, each in a line, and what they say together: healthy, or what is wrong and what to try.

    DEFINITIONS["recon/*/local"]   -> unit, what it is, what is good; the keys are a report's, * stands for a part. docs/metrics.md has them too.
    verdict(report)                -> [{"grade": "good" | "warn" | "bad", "text": ..., "advice": ...}], the headline first

A rule is a function of the report that gives a grade, a sentence, and advice that names the config's key; None where it cannot judge.
Its limits stand in LIMITS and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

SHOULDERS, UNITS, SHARE, BITS = "shoulder widths", "unit lengths (an eye's width)", "share", "bits"
DEFINITIONS: dict[str, tuple[str, str, str]] = {
    "recon/*/local": (
        SHOULDERS,
        "mean distance of joints after taking each side's own centre joint away (MPJPE), decoded from all levels",
        "below 0.35 of the mean pose's; 0.01 for the face and 0.05 for the hands are good",
    ),
    "recon/*/pixels": ("pixels", "the same in pixels", "a few"),
    "recon/*/huber": ("signing-space units", "Huber loss of each coordinate, delta 1", "lower than another run's"),
    "recon/*/mse": ("unit lengths squared", "mean square error of each coordinate", "lower than another run's"),
    "recon/*/mae": (UNITS, "mean absolute error of each coordinate", "lower than another run's"),
    "recon/*/rmse": (
        UNITS,
        "root of the mean square error; far above the mean absolute error, a few joints are far off",
        "below twice that",
    ),
    "recon/*/pck_0.05": (SHARE, "joints nearer than 0.05 shoulder widths", "above 0.6"),
    "recon/*/pck_0.1": (SHARE, "joints nearer than 0.1 shoulder widths", "above 0.85"),
    "recon/*/pck_0.2": (SHARE, "joints nearer than 0.2 shoulder widths", "above 0.95"),
    "recon/*/mean_pose": (
        SHOULDERS,
        "the same error of the training split's mean pose, which needs no code",
        "three times the error and more",
    ),
    "recon/*/raw": (
        SHOULDERS,
        "the error against the file's own poses, before low-pass and closing of gaps, all parts put together in pixels: "
        "what bench/score_reconstruction.py computes; its least score of 0.3 is data.min_score here",
        "near the error",
    ),
    "recon/*/raw_pck_0.1": (SHARE, "joints nearer than 0.1 shoulder widths, counted as raw is", "near the other share"),
    "per_joint": (
        SHOULDERS,
        "each joint's error in the smallest part that has it; none for a part's centre, which is 0 by definition",
        "no joint far above its neighbours",
    ),
    "per_signer": (SHOULDERS, "the error of one signer's clips, weighted over parts", "no signer far above the others"),
    "by_frame": (
        SHOULDERS,
        "the error by the frame's number in its chunk",
        "flat; where it rises at the ends, chunk borders show",
    ),
    "smooth/*/jump": (
        UNITS,
        "how far a reconstructed joint moves from a chunk's last frame to the next chunk's first, mean",
        "no more than the original's",
    ),
    "smooth/*/jump_original": (UNITS, "the same in the original", "what the reconstruction's should be"),
    "smooth/*/jump_p50": (UNITS, "half of the reconstructed jumps are below it", "near the original's mean"),
    "smooth/*/jump_p90": (UNITS, "90 % of the reconstructed jumps are below it", "within a few times the median"),
    "smooth/*/jump_p99": (UNITS, "99 % of the reconstructed jumps are below it", "within a few times the median"),
    "smooth/*/speed_error": (
        UNITS,
        "distance between both sides' movement from one frame to the next",
        "below the original's jump",
    ),
    "smooth/*/jerk": (
        UNITS,
        "length of the reconstruction's third difference from frame to frame, mean",
        "near the original's",
    ),
    "smooth/*/jerk_original": (UNITS, "the same in the original", "what the reconstruction's should be"),
    "smooth/*/boundary_share": (
        SHARE,
        "of all error, what lies in chunks' first and last frames",
        "2 over the chunk's length: 0.2 for ten frames",
    ),
    "codes/*/used": (SHARE, "codes of the level's codebook that occur", "0.3 and more of what so few chunks can show"),
    "codes/*/dead": (SHARE, "codes that do not occur", "what is left of the used"),
    "codes/*/perplexity": (
        "codes",
        "exp of the entropy: so many codes, evenly used, would say as much",
        "above 100 of 1024; a tenth of what so few chunks can show",
    ),
    "codes/*/entropy": (
        SHARE,
        "entropy over the log of the codebook's size: 1 where all codes occur alike",
        "above 0.7",
    ),
    "codes/*/count": ("chunks", "chunks that show anything of the part", "ten times the codebook's size, to judge by"),
    "codes/*/counts": ("chunks", "how often each code occurs", "a long flat back"),
    "mutual": (
        BITS,
        "what two parts' first-level codes say of each other: mutual information, adjusted for what shuffled codes would give, which is "
        "the bias of few chunks; on the diagonal the entropy of one",
        "far below the diagonal: no part repeats another",
    ),
    "stay": (
        SHARE,
        "chunks whose code is that of the chunk before, level by level",
        "the first level's above the next ones'",
    ),
    "steady": (
        SHARE,
        "codes that stay, level by level, when the file's poses are jittered (Gaussian, 1 px), begin a frame later, are 2 % larger, or "
        "lack 5 % of the joints throughout; at most 200 clips",
        "above 0.5 at the first level; the last, the finest, moves most",
    ),
    "meaning/clips": (
        SHARE,
        "mean average precision of a linear probe from the counts of a clip's codes to its glosses, on signers that it has not "
        "seen (on clips, where too few signers share glosses); beside it latents, shuffled codes and chance",
        "1.5 times chance and shuffled codes, near the latents",
    ),
    "meaning/segments": (
        SHARE,
        "how often the same probe puts a gloss segment's own gloss first",
        "1.5 times chance and shuffled codes, near the latents",
    ),
    "meaning/agreement": (
        SHARE,
        "overlap (Jaccard) of the first-level codes of two gloss segments of different clips, mean over all pairs",
        "the same gloss by other signers above other glosses by the same signer",
    ),
    "rate/codes_per_chunk": (
        "codes",
        "codes that stand for a chunk, over all parts, held ones too",
        "4 to 8: export.codes_per_chunk",
    ),
    "rate/symbols_per_chunk": (
        "symbols",
        "what is written for a chunk: codes, and one mark for a run of chunks that hold",
        "below codes_per_chunk",
    ),
    "rate/bits_per_s": ("bits a second", "symbols a second times log2(codebook_size + 1)", "some hundreds"),
    "rate/held": (
        SHARE,
        "chunks, part by part, that say again what the chunk before said",
        "0.05 to 0.5: signers pause, one hand rests",
    ),
    "rate/compression_float32": (
        "times",
        "bits of x and y of all joints in float32 over the tokens' bits",
        "above 500",
    ),
    "rate/compression_float16": ("times", "the same for float16", "above 250"),
    "rate/hold_error": (
        SHOULDERS,
        "the error, weighted over parts, of the codes that are sent, with holding and without",
        "with below 1.1 times without",
    ),
    "curve": (
        SHOULDERS,
        "the error, weighted over parts, by the codes sent: as the budget spends them, or the first levels of every part",
        "the budget below the uniform way at the same rate",
    ),
    "efficiency/clips_per_s": (
        "clips a second",
        "from prepared poses to tokens, all processes together",
        "as fast as another run's",
    ),
    "efficiency/frames_per_s": ("frames a second", "the same in frames", "far above the frame rate"),
    "efficiency/ms_per_chunk": (
        "milliseconds",
        "a chunk of a live stream that comes frame by frame",
        "far below the chunk's own",
    ),
    "efficiency/memory_bytes": (
        "bytes",
        "the most that a process took, of its GPU or else of main memory",
        "below what the machine has",
    ),
    "training": (
        "as in docs/training.md",
        "the run's losses over its steps, in training and in validation",
        "both fall, and stay together",
    ),
}
LIMITS = {  # good up to the first number, bad above a second
    "used": 0.3,
    "perplexity": 0.1,  # at least, of the codes that so many chunks could show
    "error": (0.35, 0.6),
    "part": (0.6, 1.0),  # over the mean pose's error: of all parts, of one
    "jump": (1.3, 2.0),  # over the original's
    "gap": (1.5,),
    "risen": (1.1,),  # validation's loss over training's, and over its own least
    "probe": 1.5,  # at least, over chance and over shuffled codes
    "steady": 0.5,  # at least, of first-level codes under a jitter of 1 px
    "held": (1.1,),  # the error with holding over the error without
}
GRADES = ("good", "warn", "bad")


class Judgement(NamedTuple):
    grade: str
    text: str
    advice: str = ""  # shown unless the grade is good


def grade(value: float, limit: str) -> str:
    return GRADES[sum(value > bound for bound in LIMITS[limit])]


def called(part: str) -> str:
    """A part's name as a sentence has it; advice that names a key's value has the name itself."""
    return part.replace("_", " ")


def can_show(size: int, chunks: float) -> float:
    """How many of `size` codes so many chunks show where all are used alike."""
    return size * (1 - (1 - 1 / size) ** chunks)


def alive(report: dict[str, Any]) -> Judgement | None:
    levels = {
        f"{called(part)}, level {number}": level
        for part, each in report["codes"].items()
        for number, level in enumerate(each, 1)
        if level["count"]
    }
    if not levels:
        return None
    if dead := [name for name, level in levels.items() if level["perplexity"] < 1.5]:
        return Judgement(
            "bad",
            f"One code says everything, so the level is dead: {'; '.join(dead)}.",
            "Raise model.rvq.revive_below or model.rvq.usage_reg, or lower model.rvq.levels.",
        )
    size = report["codebook_size"]

    def health(name: str) -> float:
        level, most = levels[name], can_show(size, levels[name]["count"])
        return min(level["used"] * size / most / LIMITS["used"], level["perplexity"] / most / LIMITS["perplexity"])

    worst = min(levels, key=health)
    told = f"the least used, {worst}, has {levels[worst]['used']:.0%} of its {size} codes in use and perplexity {levels[worst]['perplexity']:.0f}"
    if health(worst) >= 1:
        return Judgement("good", f"Every codebook is alive: {told}.")
    return Judgement(
        "bad",
        f"A codebook is collapsing: {told}, in {levels[worst]['count']} chunks.",
        "Raise model.rvq.usage_reg or model.rvq.revive_below, lower train.lr, or take a smaller model.rvq.codebook_size.",
    )


def visible(report: dict[str, Any]) -> Judgement | None:
    never = [called(part) for part, levels in report["codes"].items() if not levels[0]["count"]]
    return (
        Judgement(
            "warn",
            f"No chunk of this split shows anything of {', '.join(never)}: those numbers are missing.",
            "Check data.body_parts and data.min_score, or evaluate another split.",
        )
        if never
        else None
    )


def error(report: dict[str, Any]) -> Judgement | None:
    ours, still = (report["recon"]["weighted"][name] for name in ("local", "mean_pose"))
    if ours is None or not still:
        return None
    return Judgement(
        grade(ours / still, "error"),
        f"The error is {ours:.4f} shoulder widths, {ours / still:.0%} of the mean pose's.",
        "Train longer (train.epochs), or raise model.rvq.levels, model.rvq.codebook_size or model.encoder_latent_dim.",
    )


def worst_part(report: dict[str, Any]) -> Judgement | None:
    part, ratio = _largest(report["recon"], report["parts"], "local", "mean_pose")
    return part and Judgement(
        grade(ratio, "part"),
        f"The worst part is {called(part)}: its error is {ratio:.0%} of its mean pose's.",
        f"Raise train.part_weights for {part}, or give it more levels (model.rvq.levels as a table).",
    )


def jumps(report: dict[str, Any]) -> Judgement | None:
    part, ratio = _largest(report["smooth"], report["parts"], "jump", "jump_original")
    return part and Judgement(
        grade(ratio, "jump"),
        f"From chunk to chunk {called(part)} jumps {ratio:.1f} times as far as the original.",
        "Raise model.rvq.levels or model.rvq.temporal_loss_alpha: the nearer both chunks are, the smaller the jump.",
    )


def _largest(
    rows: dict[str, dict[str, float | None]], parts: list[str], above: str, below: str
) -> tuple[str | None, float]:
    """The part with the largest quotient of two of its numbers, and that."""
    quotients = {
        part: rows[part][above] / rows[part][below]
        for part in parts
        if rows[part][above] is not None and rows[part][below]
    }
    return max(quotients.items(), key=lambda item: item[1], default=(None, 0.0))


def overfitting(report: dict[str, Any]) -> Judgement | None:
    curves = report["training"] or {}
    pairs = {split: zip(curves[split].get("rec", []), curves[split].get("commit", [])) for split in curves}
    train, val = (
        [rec for rec, commit in pairs.get(split, []) if rec and commit] for split in ("train", "val")
    )  # since there are codes
    if not train or not val:
        return None
    gap, risen = val[-1] * len(train[-5:]) / sum(train[-5:]), val[-1] / min(val)
    return Judgement(
        max(grade(gap, "gap"), grade(risen, "risen"), key=GRADES.index),
        f"At the end of training the validation loss is {gap:.2f} times the training loss and {risen:.2f} times its own least.",
        "It overfits: take more clips, data.augment.affine=0.1, or a smaller model.encoder_latent_dim.",
    )


def meaning(report: dict[str, Any]) -> Judgement | None:
    results = report["meaning"] or {}
    name = next((name for name in ("segments", "clips") if results.get(name)), None)
    if name is None:
        return None
    result = results[name]
    codes, shuffled, latents = (sum(result[key]) / len(result[key]) for key in ("codes", "shuffled", "latents"))
    good = codes > LIMITS["probe"] * max(result["chance"], shuffled)
    return Judgement(
        "good" if good else "warn",
        f"From the codes of {name} a linear probe tells {result['classes']} glosses apart with {codes:.0%}; from latents {latents:.0%}, "
        f"by chance {result['chance']:.0%}.",
        "The codes say little of what is signed: raise model.rvq.levels or train.part_weights of the hands, or measure on more clips.",
    )


def steadiness(report: dict[str, Any]) -> Judgement | None:
    first = [levels[0] for levels in report["steady"]["jitter of 1 px"].values() if levels[0] is not None]
    share = sum(first) / max(len(first), 1)
    return (
        Judgement(
            "good" if share >= LIMITS["steady"] else "warn",
            f"{share:.0%} of the first-level codes stay when every joint is jittered by a pixel.",
            "Raise data.smooth, or take a smaller model.rvq.codebook_size.",
        )
        if first
        else None
    )


def holding(report: dict[str, Any]) -> Judgement | None:
    held, free = (report["rate"]["hold_error"][name] for name in ("with", "without"))
    if held is None or not free:
        return None
    added = f"adds {held / free - 1:.1%} to the error" if held / free > 1.0005 else "costs no error"
    return Judgement(
        grade(held / free, "held"),
        f"Holding what hardly moves saves {report['rate']['held']:.0%} of the parts' chunks and {added}.",
        "Lower export.rle_threshold.",
    )


RULES: tuple[Callable[[dict[str, Any]], Judgement | None], ...] = (
    alive,
    visible,
    error,
    worst_part,
    jumps,
    overfitting,
    meaning,
    steadiness,
    holding,
)


def verdict(report: dict[str, Any]) -> list[dict[str, str]]:
    if not report["run"]["clips"]:
        return [
            Judgement(
                "bad",
                f"Nothing was measured: the split {report['run']['split']!r} has no clip.",
                "Name another one: --split.",
            )._asdict()
        ]
    found = [judgement for rule in RULES if (judgement := rule(report))]
    bad, warn = (sum(judgement.grade == name for judgement in found) for name in ("bad", "warn"))
    if bad:
        headline = Judgement(
            "bad",
            f"Not healthy: {bad} of {len(found)} checks failed" + (f", {warn} more need a look." if warn else "."),
        )
    elif warn:
        headline = Judgement("warn", f"Usable, but {warn} of {len(found)} checks need{'s' * (warn == 1)} a look.")
    else:
        headline = Judgement("good", f"Healthy: all {len(found)} checks passed.")
    found = [judgement._replace(advice="") if judgement.grade == "good" else judgement for judgement in found]
    return [judgement._asdict() for judgement in (headline, *sorted(found, key=lambda one: -GRADES.index(one.grade)))]
