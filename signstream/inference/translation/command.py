"""What the door inference/translate.py does: clips of a split, of a file of tokens, of one of poses or of standard
input, into sentences; their scores, and those of who has not seen the signing."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from signstream.data.frontend import frame_rate
from signstream.data.sequences import Padded
from signstream.errors import UserError
from signstream.inference.clips import Clips, SplitClips, of_poses, of_tokens
from signstream.inference.report.translation.build import page_of
from signstream.inference.translation.clips import faults, meanings, of_split
from signstream.inference.translation.controls import Controls, controls_of, prior_of, silenced
from signstream.inference.translation.live import of_stdin
from signstream.inference.translation.session import Session, open_translator
from signstream.inference.translation.translator import Found, Translator
from signstream.inference.translation.while_signing import speak
from signstream.inference.translation.written import PAGE, Outputs, Result, line_of, scored, write
from signstream.models.metrics.text import TextScores
from signstream.training.distributed import Ranks

LIVE = "-"
ROWS = 160  # beams of all clips that are searched at once: with mBART's vocabulary, 160 MB a step and copy
SHOWN = {"bleu_4": "BLEU-4", "chrf": "chrF", "rouge_l": "ROUGE-L"}
NAMES = {
    "translations": "of the clips as they are",
    "shuffled": "of the same translations, each of another clip",
    "silent": "of the clips with nothing in them",
    "prior": "of one training sentence for all",
}


def translate(args: Namespace) -> None:
    """What the door was asked for: its options."""
    if args.live:
        speak(args)
        return
    outputs = outputs_of(args)
    with open_translator(args.checkpoint, args.config, args.overrides) as session:
        translator, ranks = session.translator, session.ranks
        if not 1 <= args.n_best <= translator.decode.beams:
            raise UserError(f"--n_best is {args.n_best}: 1 to {translator.decode.beams}, the beams, are possible")
        clips = clips_of(args, session)
        skipped = faults(clips)
        if args.input is not None and skipped:
            raise UserError(f"{args.input}: {skipped[0]}")
        if any(clip.text is not None for clip in clips.all):
            TextScores(translator.language)  # what cannot be scored is said now
        if args.page is not None and not any(clip.text for i, clip in enumerate(clips.all) if i not in skipped):
            raise UserError(f"--page: no clip of the split {args.split} that can be read has a sentence")
        results = translate_all(clips, ranks, n_best=args.n_best, but=skipped)
        controls = measured(clips, ranks, results, but=skipped) if args.controls or args.page else None
        ranks.from_main(lambda: finish(outputs, results, Told(session, args, clips, skipped, controls)))


class Told(NamedTuple):
    """What the scores are of."""

    session: Session
    args: Namespace
    clips: Clips[Translator]
    skipped: dict[int, str]
    controls: Controls | None


def outputs_of(args: Namespace) -> Outputs:
    """Where to, once the options fit each other."""
    if args.input is None and args.split is None and args.tokens is None:
        raise UserError("what is to be translated? --split NAME, --tokens FILE, --input clip.npy or --input -")
    if args.input is not None and (args.split or args.tokens):
        raise UserError("--input is one clip: leave out --split and --tokens")
    if args.policy is not None or args.tokenizer is not None:
        raise UserError("--policy and --tokenizer are of text while signing goes on: add --live")
    if args.fps is not None:
        frame_rate(args.fps, "--fps")
        if args.input is None:
            raise UserError("--fps is the frame rate of --input: the frames of a split and of tokens have their own")
    for option, verb in (("controls", "are"), ("page", "is")):
        if getattr(args, option) and (args.split is None or args.tokens is not None):
            raise UserError(f"--{option} {verb} of a data set's split: name it with --split, without --tokens")
    if args.report is not None and args.split is None:
        raise UserError("--report holds scores: name the split that has the sentences with --split")
    if args.out is None and args.input != LIVE:
        raise UserError("--out FILE is needed: where the JSON lines go")
    outputs = Outputs(args.out, args.report, args.page)
    outputs.check()
    return outputs


def clips_of(args: Namespace, session: Session) -> Clips[Translator]:
    translator, config, ranks = session
    if args.input == LIVE:
        if ranks.world > 1:
            raise UserError("a stream is translated by one process: start it without torchrun")
        return of_stdin(translator, args.fps)
    if args.input is not None:
        return of_poses(translator, Path(args.input), args.fps)
    if args.tokens is not None:
        return of_tokens(translator, args.tokens, meanings(config.data, args.split) if args.split else None)
    return of_split(translator, config.data, args.split, quiet=not ranks.is_main)


def as_it_is(padded: Padded) -> Padded:
    return padded


def translate_all(
    clips: Clips[Translator],
    ranks: Ranks,
    *,
    n_best: int = 1,
    but: dict[int, str],
    change: Callable[[Padded], Padded] = as_it_is,
) -> list[Result]:
    """Every rank reads its share and gets all, in the clips' order, `but` some."""
    numbers = [number for number in range(len(clips.all)) if number not in but]
    share = numbers[ranks.rank :: ranks.world]
    found: dict[int, Found] = {}
    most = max(ROWS // clips.reader.decode.beams, 1)
    with tqdm(total=len(share), desc="translate", unit="clip", disable=None if ranks.is_main else True) as bar:
        for some, padded in clips.batches(share, most=most):
            found.update(zip(some, clips.reader.say(change(padded), n_best=n_best)))
            bar.update(len(some))
    everyone = {number: one for part in ranks.collect(found) for number, one in part.items()}
    return [Result(clips.all[i], everyone[i].best, everyone[i].units, i) for i in numbers]


def measured(
    clips: Clips[Translator], ranks: Ranks, results: Sequence[Result], *, but: dict[int, str]
) -> Controls | None:
    """On rank 0."""
    assert isinstance(clips, SplitClips), "controls are of a split"
    reader = clips.reader
    silent = translate_all(clips, ranks, but=but, change=lambda padded: silenced(padded, reader.reads.shape[0]))
    if not ranks.is_main:
        return None
    return controls_of(reader.language, results, silent, prior=prior_of(reader.language, clips.sequences))


# -- what is said of them


def finish(outputs: Outputs, results: Sequence[Result], told: Told) -> None:
    args = told.args
    lines = [line_of(result, args.n_best) for result in results]
    known = [result for result in results if result.clip.text is not None]
    said = [result.best[0].text for result in known]
    meant = [result.clip.text or "" for result in known]
    scores = scored(told.session.translator.language, meant, said) if known else None
    report = report_of(results, told, scores)
    write(outputs, lines, report, page=made_page(results, told, scores, report=report))
    if args.input == LIVE:
        print(lines[0], flush=True)
    if outputs.out is not None:
        print(f"{outputs.out}: {summary(results, told, scores)}", flush=True)
    if told.controls is not None and scores is not None:
        print(table(scores, told.controls), flush=True)
    if outputs.page is not None:
        print(outputs.page / PAGE, flush=True)


def made_page(
    results: Sequence[Result], told: Told, scores: TextScores | None, *, report: dict[str, Any]
) -> str | None:
    if told.args.page is None:
        return None
    assert isinstance(told.clips, SplitClips) and scores is not None, "a page is of a split that has sentences"
    config = told.session.config
    return page_of(told.clips, results, scores, config=config, report={**report, "controls_are": NAMES})


def report_of(results: Sequence[Result], told: Told, scores: TextScores | None) -> dict[str, Any]:
    decode, args = told.session.translator.decode, told.args
    report = {
        "split": args.split,
        "clips": len(results),
        "left_out": len(told.skipped),
        "checkpoints": len(args.checkpoint),
        "decode": {name: getattr(decode, name) for name in ("beams", "max_tokens", "length_penalty")},
        "scores": scores.result() if scores is not None else {},
        "variants": scores.variants() if scores is not None else {},
    }
    return report if told.controls is None else {**report, "controls": told.controls._asdict()}


def summary(results: Sequence[Result], told: Told, scores: TextScores | None) -> str:
    text = f"{len(results)} clip{'' if len(results) == 1 else 's'}"
    unknown = sum(result.clip.text is None for result in results)
    if scores is not None:
        numbers, variants = scores.result(), scores.variants()
        text += "; " + ", ".join(f"{name} {numbers[f'text/{key}']:.2f}" for key, name in SHOWN.items())
        text += f" (BLEU {variants['bleu']})"
        text += f"; {unknown} clips have no sentence to be held against" if unknown else ""
    if told.skipped:
        text += f"; {len(told.skipped)} cannot be read, the first: {next(iter(told.skipped.values()))}"
    return text


def table(scores: TextScores, controls: Controls) -> str:
    values = {"translations": scores.result()["text/bleu_4"], **controls._asdict()}
    rows = [
        f"{name:12} {f'{values[name]:.2f}' if values[name] is not None else '-':>6}   {what}"
        for name, what in NAMES.items()
    ]
    return "\n".join([f"{'':12} BLEU-4", *rows, f"{'':19}   ({controls.said})"])
