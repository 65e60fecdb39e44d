"""What a report's numbers say together: healthy, or what is wrong and what to try.

    verdict(report, rules)  -> [{"grade": "good" | "warn" | "bad", "text": ..., "advice": ...}], the headline first,
                               then what tokens cost, then the rest, the worst first

A rule is a function of the report that gives a grade, a sentence, and advice that names the config's key; None where it
cannot judge. Its limits stand in LIMITS and FLOORS and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Report = dict[str, Any]  # as report.json holds it

# good up to the first number, bad above a second
LIMITS: dict[str, tuple[float, ...]] = {
    "error": (0.35, 0.6),  # over the mean pose's, of all parts
    "part": (0.6, 1.0),  # the same, of one
    "jump": (1.3, 2.0),  # over the original's
    "gap": (1.5,),  # validation's loss over training's
    "risen": (1.1,),  # validation's loss over its own lowest
    "held": (1.1,),  # the error with holding over the error without
    "unread": (0.9,),  # the judge's word errors from keypoints over those by chance: above it nothing was learnt
}
# good from here on
FLOORS = {
    "used": 0.3,  # of the codes that so many chunks could show
    "perplexity": 0.1,  # likewise
    "probe": 1.5,  # over chance and over shuffled codes
    "steady": 0.5,  # of first-level codes under a jitter of 1 px
    # of what is read beyond chance in keypoints or latents, what is read in tokens
    "kept": 0.9,  # a tenth is two standard errors of the quickstart's 375 segments
    "half": 0.5,  # below it most is lost: bad, unless tokens beat chance as "probe" says
}
FEW = 100  # chunks, half a minute of signing: less shows next to nothing
GRADES = ("good", "warn", "bad")


class Judgement(NamedTuple):
    grade: str
    text: str
    advice: str = ""  # shown unless the grade is good


Rule = Callable[[Report], Judgement | None]


def grade(value: float, limit: str) -> str:
    return GRADES[sum(value > bound for bound in LIMITS[limit])]


def called(part: str) -> str:
    """A part's name as a sentence has it; advice that names a key's value has the name itself."""
    return part.replace("_", " ")


def can_show(size: int, chunks: float) -> float:
    """How many of `size` codes so many chunks show where all are used alike."""
    return size * (1 - (1 - 1 / size) ** chunks)


def enough(report: Report) -> Judgement | None:
    """Says something where there is too little alone."""
    run = report["run"]
    if run["chunks"] >= FEW:
        return None
    return Judgement(
        "warn",
        f"Only {run['chunks']} chunks of {run['clips']} clips were measured: whatever is said here says little.",
        f"Put more clips into {run['split']!r}: hundreds of chunks are needed to judge by.",
    )


def alive(report: Report) -> Judgement | None:
    levels = {
        f"{called(part)}, level {number}": level
        for part, each in report["codes"].items()
        for number, level in enumerate(each, 1)
        if level["count"]
    }
    if not levels:
        return None
    if dead := [name for name, level in levels.items() if level["perplexity"] < 1.5]:
        told = report.get("tells") is not None and dead == [f"{called(report['tells'])}, level 1"]
        return Judgement(
            "bad",
            f"One code says everything, so the level is dead: {'; '.join(dead)}.",
            "Raise model.rvq.revive_below or model.rvq.usage_reg, or "
            f"{'train longer (train.epochs)' if told else 'lower model.rvq.levels'}.",
        )
    size = report["codebook_size"]

    def health(name: str) -> float:
        level = levels[name]
        most = can_show(size, level["count"])
        return min(level["used"] * size / most / FLOORS["used"], level["perplexity"] / most / FLOORS["perplexity"])

    worst = min(levels, key=health)
    level = levels[worst]
    use = f"{level['used']:.0%} of its {size} codes in use and perplexity {level['perplexity']:.0f}"
    if health(worst) >= 1:
        return Judgement("good", f"Every codebook is alive: the least used, {worst}, has {use}.")
    return Judgement(
        "bad",
        f"A codebook is collapsing: the least used, {worst}, has {use}, in {level['count']} chunks.",
        "Raise model.rvq.usage_reg or model.rvq.revive_below, lower train.lr, or take a smaller "
        "model.rvq.codebook_size.",
    )


def drawn(report: Report) -> list[str]:
    """The parts that are drawn from codes of their own; one that tells is as the others draw it."""
    return [part for part in report["parts"] if part != report.get("tells")]


def visible(report: Report) -> Judgement | None:
    never = [called(part) for part, levels in report["codes"].items() if not levels[0]["count"]]
    if not never:
        return None
    return Judgement(
        "warn",
        f"No chunk of this split shows anything of {', '.join(never)}: those numbers are missing.",
        "Check data.body_parts and data.min_score, or evaluate another split.",
    )


def error(report: Report) -> Judgement | None:
    weighted = report["recon"]["weighted"]
    local, mean_pose = weighted["local"], weighted["mean_pose"]
    if local is None or not mean_pose:
        return None
    return Judgement(
        grade(local / mean_pose, "error"),
        f"The error is {local:.4f} shoulder widths, {local / mean_pose:.0%} of the mean pose's.",
        "Train longer (train.epochs), or raise model.rvq.levels, model.rvq.codebook_size or model.encoder_latent_dim.",
    )


def worst_part(report: Report) -> Judgement | None:
    worst = largest_quotient(report["recon"], drawn(report), over=("local", "mean_pose"))
    if worst is None:
        return None
    return Judgement(
        grade(worst.value, "part"),
        f"The worst part is {called(worst.part)}: its error is {worst.value:.0%} of its mean pose's.",
        f"Raise loss.part_weights for {worst.part}, or give it more levels (model.rvq.levels as a table).",
    )


def jumps(report: Report) -> Judgement | None:
    worst = largest_quotient(report["smooth"], drawn(report), over=("jump", "jump_original"))
    if worst is None:
        return None
    return Judgement(
        grade(worst.value, "jump"),
        f"From chunk to chunk {called(worst.part)} jumps {worst.value:.1f} times as far as the original.",
        "Raise model.rvq.levels or model.rvq.temporal_loss_alpha: the nearer both chunks are, the smaller the jump.",
    )


class Quotient(NamedTuple):
    """Of two numbers of a part."""

    part: str
    value: float


def largest_quotient(
    rows: dict[str, dict[str, float | None]], parts: list[str], *, over: tuple[str, str]
) -> Quotient | None:
    """Of the first number over the second, over the parts that have both."""
    quotients = []
    for part in parts:
        above, below = (rows[part][name] for name in over)
        if above is not None and below:
            quotients.append(Quotient(part, above / below))
    return max(quotients, key=lambda quotient: quotient.value, default=None)


def overfitting(report: Report) -> Judgement | None:
    curves = report["training"] or {}
    train, val = (rec_since_codes(curves.get(split, {})) for split in ("train", "val"))
    if not train or not val:
        return None
    gap = val[-1] * len(train[-5:]) / sum(train[-5:])
    risen = val[-1] / min(val)
    ratios = f"{gap:.2f} times the training loss and {risen:.2f} times its own least"
    return Judgement(
        max(grade(gap, "gap"), grade(risen, "risen"), key=GRADES.index),
        f"At the end of training the validation loss is {ratios}.",
        "It overfits: take more clips, data.augment.affine=0.1, or a smaller model.encoder_latent_dim.",
    )


def rec_since_codes(curve: dict[str, list[float | None]]) -> list[float]:
    """The reconstruction's loss at each step since there are codes."""
    return [rec for rec, commit in zip(curve.get("rec", []), curve.get("commit", [])) if rec and commit]


LESS_LOSS = "Raise export.codes_per_chunk, model.rvq.levels or loss.part_weights of the hands, or train longer."
UNREAD = "It hardly reads the keypoints, so this says nothing of the tokens: measure on more clips."


def words(report: Report) -> Judgement | None:
    """What tokens cost, by the judge: by the first split that was judged, val where there is one."""
    rows = (report.get("judge") or {}).get("rows", {})
    first: dict[str, float | None] = {name: next(iter(row["wer"].values()), None) for name, row in rows.items()}
    keypoints, tokens, chance = (first.get(name) for name in ("keypoints", "tokens", "tokens of other clips"))
    if keypoints is None or tokens is None or not chance:
        return None
    split = next(iter(rows["tokens"]["wer"]))
    told = f"from the tokens, {keypoints:.1f} % from the keypoints, {chance:.0f} % by chance"
    text = f"a small recogniser gets {tokens:.1f} % of the words of {split} wrong {told}; one seed."
    if grade(keypoints / chance, "unread") != "good":
        return Judgement("warn", text[0].upper() + text[1:], UNREAD)
    kept = (chance - tokens) / (chance - keypoints)
    unread = grade(tokens / chance, "unread") != "good"
    return Judgement(
        "bad" if unread else "good" if kept >= FLOORS["kept"] else "warn",
        f"Tokens keep {share_of(kept)} of the words that keypoints tell: {text}",
        LESS_LOSS,
    )


def cost(report: Report) -> Judgement | None:
    """What tokens cost, by the probe; a report from before it read keypoints has no answer."""
    results = report["meaning"] or {}
    result: Report = next((results[name] for name in ("segments", "clips") if results.get(name)), {})
    if not result.get("tokens") or not result.get("keypoints"):
        return None
    read = {name: sum(result[name]) / len(result[name]) for name in ("tokens", "keypoints", "latents", "shuffled")}
    source = max(("keypoints", "latents"), key=lambda name: read[name])
    chance, needed = result["chance"], FLOORS["probe"] * max(result["chance"], read["shuffled"])
    told = ", ".join(f"{read[name]:.0%} from {name}" for name in ("tokens", "keypoints", "latents"))
    text = f"a linear probe tells {result['classes']} glosses apart with {told}, {chance:.0%} by chance."
    if read[source] <= needed:
        return Judgement("warn", text[0].upper() + text[1:], UNREAD)
    kept, beats = (read["tokens"] - chance) / (read[source] - chance), read["tokens"] > needed
    failed = "warn" if kept >= FLOORS["half"] or beats else "bad"
    return Judgement(
        "good" if kept >= FLOORS["kept"] and beats else failed,
        f"Tokens keep {share_of(kept)} of what {source} tell: {text}",
        LESS_LOSS,
    )


def share_of(kept: float) -> str:
    """Chance may put it beyond either end."""
    return f"{min(max(kept, 0.0), 1.0):.0%}"


def steadiness(report: Report) -> Judgement | None:
    first = [levels[0] for levels in report["steady"]["jitter of 1 px"].values() if levels[0] is not None]
    if not first:
        return None
    share = sum(first) / len(first)
    return Judgement(
        "good" if share >= FLOORS["steady"] else "warn",
        f"{share:.0%} of the first-level codes stay when every joint is jittered by a pixel.",
        "Raise data.smooth, or take a smaller model.rvq.codebook_size.",
    )


def holding(report: Report) -> Judgement | None:
    held, free = (report["rate"]["hold_error"][name] for name in ("with", "without"))
    if held is None or not free:
        return None
    added = f"adds {held / free - 1:.1%} to the error" if held / free > 1.0005 else "costs no error"
    return Judgement(
        grade(held / free, "held"),
        f"Holding what hardly moves saves {report['rate']['held']:.0%} of the parts' chunks and {added}.",
        "Lower export.rle_threshold.",
    )


RULES: tuple[Rule, ...] = (
    words,
    cost,
    enough,
    alive,
    visible,
    error,
    worst_part,
    jumps,
    overfitting,
    steadiness,
    holding,
)
LEADING: tuple[Rule, ...] = (words, cost)  # whatever their grade


def verdict(report: Report, rules: Sequence[Rule] = RULES) -> list[dict[str, str]]:
    if not report["run"]["clips"]:
        nothing = f"Nothing was measured: the split {report['run']['split']!r} has no clip."
        return [Judgement("bad", nothing, "Name another one: --split.")._asdict()]
    found = {rule: judgement for rule in rules if (judgement := rule(report))}
    first = [found[rule] for rule in LEADING if rule in found]
    others = [judgement for rule, judgement in found.items() if rule not in LEADING]
    ordered = [*first, *sorted(others, key=lambda judgement: -GRADES.index(judgement.grade))]
    shown = [judgement._replace(advice="") if judgement.grade == "good" else judgement for judgement in ordered]
    return [judgement._asdict() for judgement in (headline(ordered), *shown)]


def headline(judgements: Sequence[Judgement]) -> Judgement:
    count = len(judgements)
    bad, warn = (sum(judgement.grade == name for judgement in judgements) for name in ("bad", "warn"))
    if bad:
        more = f", {warn} more need a look." if warn else "."
        return Judgement("bad", f"Not healthy: {bad} of {count} checks failed{more}")
    if warn:
        return Judgement("warn", f"Usable, but {warn} of {count} checks need{'s' * (warn == 1)} a look.")
    return Judgement("good", f"Healthy: all {count} checks passed.")
