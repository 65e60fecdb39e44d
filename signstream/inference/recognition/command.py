"""What the door inference/recognize.py does: clips of a split, of a file of tokens or of one of poses, into files."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from signstream.data.frontend import frame_rate
from signstream.errors import UserError
from signstream.inference.clips import Clips, labels_of, of_poses, of_tokens
from signstream.inference.recognition.clips import of_split
from signstream.inference.recognition.gloss_lines import live
from signstream.inference.recognition.recogniser import Recogniser
from signstream.inference.recognition.session import Session, open_recogniser
from signstream.inference.recognition.spans import Recognised
from signstream.inference.recognition.written import Outputs, Result, errors_of, write
from signstream.models.metrics import wer
from signstream.training.distributed import Ranks

LIVE = "-"


def recognise(args: Namespace) -> None:
    """What the door was asked for: its options."""
    outputs = outputs_of(args)
    with open_recogniser(args.checkpoint, args.config, args.overrides) as session:
        if args.input == LIVE:
            if session.ranks.world > 1:
                raise UserError("a stream is recognised by one process: start it without torchrun")
            results = [live(session.recogniser, args.fps)]
        else:
            results = recognise_all(clips_of(args, session), session.ranks)
        session.ranks.from_main(lambda: write(outputs, results))
        if session.ranks.is_main and outputs.out is not None:
            print(f"{outputs.out}: {summary(results)}", flush=True)


def outputs_of(args: Namespace) -> Outputs:
    """Where to, once the options fit each other."""
    if args.input is None and args.split is None and args.tokens is None:
        raise UserError("what is to be recognised? --split NAME, --tokens FILE, --input clip.npy or --input -")
    if args.input is not None and (args.split or args.tokens):
        raise UserError("--input is one clip: leave out --split and --tokens")
    if args.fps is not None:
        frame_rate(args.fps, "--fps")
        if args.input is None:
            raise UserError("--fps is the frame rate of --input: the frames of a split and of tokens have their own")
    if args.out is None and args.input != LIVE:
        raise UserError("--out FILE is needed: where the JSON lines go")
    if args.stm is not None and args.split is None:
        raise UserError("--stm holds references: name the split that has them with --split")
    outputs = Outputs(args.out, args.ctm, args.stm)
    outputs.check()
    return outputs


def clips_of(args: Namespace, session: Session) -> Clips[Recogniser]:
    recogniser, config, ranks = session
    if args.input is not None:
        return of_poses(recogniser, Path(args.input), args.fps)
    if args.tokens is not None:
        return of_tokens(recogniser, args.tokens, labels_of(config.data, args.split) if args.split else None)
    return of_split(recogniser, config.data, args.split, quiet=not ranks.is_main)


def recognise_all(clips: Clips[Recogniser], ranks: Ranks) -> list[Result]:
    """Every rank reads its share and gets all, in the clips' order."""
    share = range(len(clips.all))[ranks.rank :: ranks.world]
    found: dict[int, Recognised] = {}
    with tqdm(total=len(share), desc="recognise", unit="clip", disable=None if ranks.is_main else True) as bar:
        for numbers, padded in clips.batches(share):
            frames = [clips.all[number].frames for number in numbers]
            found.update(zip(numbers, clips.reader.recognise_clips(padded, frames, clips.timing)))
            bar.update(len(numbers))
    everyone = {number: one for part in ranks.collect(found) for number, one in part.items()}
    return [Result(clip, everyone[number]) for number, clip in enumerate(clips.all)]


def summary(results: Sequence[Result]) -> str:
    signs = sum(len(found.signs) for _, found in results)
    plural = "" if len(results) == 1 else "s"
    text = f"{len(results)} clip{plural}, {signs} glosses"
    unknown = sum(clip.words is None for clip, _ in results)
    if unknown == len(results):
        return text
    text += f"; WER {told(errors_of(results))}"
    return text + (f"; {unknown} clips have no words to be held against" if unknown else "")


def told(errors: wer.Counts) -> str:
    return f"{100 * errors.rate:.1f} % ({wer.parts_of(errors)})"
