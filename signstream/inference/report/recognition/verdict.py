"""What a recogniser's numbers say together: rules as those of a tokenizer (report/verdict.py)."""

from __future__ import annotations

from signstream.inference.report.verdict import Judgement, Report, Rule

OF_CONTROLS = (0.5, 0.9)  # of the better control's rate: good up to the first, bad above the second
LOPSIDED = 3.0  # times as many deletions as insertions, or the reverse,
NOTICED = 5.0  # where they are more than so many per cent of the words
WORST_SIGNER = 1.5  # times the rate of all
FEW_WORDS = 20  # of a signer, that say nothing yet
UNKNOWN = 0.01  # of the words


def rate(report: Report) -> Judgement | None:
    errors, controls = report["errors"], report["controls"]
    shuffled = controls["shuffled"] or [controls["nothing"]]
    other = sum(shuffled) / len(shuffled)
    share = errors["wer"] / max(min(other, controls["nothing"]), 1e-9)
    counts = errors["counts"]
    said = f"{counts['substitutions']} substituted, {counts['deletions']} deleted, {counts['insertions']} inserted"
    return Judgement(
        ("good", "warn", "bad")[sum(share > limit for limit in OF_CONTROLS)],
        f"WER {errors['wer']:.1f} %: {said} of {counts['words']} words; other clips' lines give {other:.0f} %, "
        f"saying nothing {controls['nothing']:.0f} %.",
        "It hardly reads the clips: train longer (train.epochs), on more clips, or with a larger train.lr.",
    )


def balance(report: Report) -> Judgement | None:
    errors = report["errors"]
    deleted, inserted = errors["deletions"], errors["insertions"]
    if deleted > max(LOPSIDED * inserted, NOTICED):
        return Judgement(
            "warn",
            f"It says too little: {deleted:.1f} % of the words are deleted, {inserted:.1f} % inserted.",
            "Train longer, raise loss.smoothing, or raise decode.skip_blank: steps are too sure of saying nothing.",
        )
    if inserted > max(LOPSIDED * deleted, NOTICED):
        return Judgement(
            "warn",
            f"It says too much: {inserted:.1f} % of the words are inserted, {deleted:.1f} % deleted.",
            "Lower decode.skip_blank, or take more frames a step (model.keypoints.strides, model.frames.stride).",
        )
    return Judgement("good", f"Deletions ({deleted:.1f} %) and insertions ({inserted:.1f} %) are in balance.")


def signers(report: Report) -> Judgement | None:
    told = {name: row for name, row in report["per_signer"].items() if row["counts"]["words"] >= FEW_WORDS}
    if len(told) < 2:
        return None
    worst = max(told, key=lambda name: told[name]["wer"])
    high, all_of_them = told[worst]["wer"], report["errors"]["wer"]
    return Judgement(
        "warn" if high > WORST_SIGNER * all_of_them else "good",
        f"The hardest is signer {worst}: WER {high:.1f} %, of all {all_of_them:.1f} %.",
        "Train on more signers, or raise data.augment.affine (of frames, data.frames.augment.magnitude).",
    )


def unknown(report: Report) -> Judgement | None:
    count, words = report["errors"]["unknown"], report["errors"]["counts"]["words"]
    if not count:
        return None
    return Judgement(
        "warn" if count > UNKNOWN * words else "good",
        f"{count} of the {words} words are not in training, so they count as errors.",
        "Look at data.clean: the same rules must hold for training and for this split.",
    )


RULES: tuple[Rule, ...] = (rate, balance, signers, unknown)
