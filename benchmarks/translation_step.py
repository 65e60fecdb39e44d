"""What a step of translation's second phase takes at the specification's sizes, and how that grows with the clips.

    python -m benchmarks.translation_step [--frames 75 150 300 600] [--clips 8] [--steps 3] [--large]

The encoder of D 384 on 225 numbers of keypoints and 180 rows of 768 features, adapter, a text model, sentences of 20
units; forward, backward and AdamW's step, on the CPU. `--large`: the text model has mbart-large-cc25's sizes, its
weights drawn (610 million), else the tiny one's. Each length in a process of its own: seconds are the fastest step's,
memory is the process's peak less what it had before the first step.

rows(): the tiny model's step on keypoints alone, beside one that hands the encoder's steps to transformers' own class
with the same weights and takes its loss; both have to say the same loss.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.pairs import PAIRS, Row, Work, in_turn
from signstream import cli
from signstream.config.translation import SPECIFIED_FROZEN, TranslationModel
from signstream.errors import UserError
from signstream.models.sign_encoder import Reads, sign_encoder
from signstream.models.text_model import TextModel, decoder_inputs, transformers_package
from signstream.models.text_sources import tiny_model
from signstream.models.translation import SignTranslator

UNITS, POINTS, ROWS, WIDTH, LARGE_TOKENS = 20, 75, 180, 768, 250_027
LANGUAGE = {"source": "de_DE", "target": "de_DE"}
GIB = 1 << 20  # ru_maxrss counts in 1,024 bytes


class Asked(NamedTuple):
    frames: int
    clips: int
    steps: int
    large: bool


class Took(NamedTuple):
    before: float  # GiB
    more: float  # GiB at the peak
    seconds: float


def text_model(large: bool) -> TextModel:
    tiny = tiny_model(["der Regen zieht nach Norden"], **LANGUAGE)
    if not large:
        return tiny
    package = transformers_package()
    mbart = package.MBartForConditionalGeneration(package.MBartConfig(vocab_size=LARGE_TOKENS, scale_embedding=True))
    return TextModel(mbart, tiny.tokenizer, origin={"kind": "drawn"})


def measure(asked: Asked) -> Took:
    torch.manual_seed(0)
    encoder = sign_encoder(TranslationModel().encoder, Reads("keypoints", (POINTS,), visual=WIDTH), 0)
    text = text_model(asked.large)
    text.freeze(SPECIFIED_FROZEN if asked.large else ())
    model = SignTranslator(encoder, text).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    streams: dict[str, Any] = {
        "keypoints": torch.rand(asked.clips, asked.frames, POINTS, 3),
        "visual": torch.randn(asked.clips, ROWS, WIDTH),
    }
    lengths = torch.full((asked.clips,), asked.frames)
    labels = torch.randint(5, 20, (asked.clips, UNITS))
    before, seconds = peak(), []
    for draw in range(asked.steps):
        began = time.perf_counter()
        logits = model(streams, lengths, decoder_inputs(labels), draw=draw).logits
        F.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - began)
    return Took(before, peak() - before, min(seconds))


class Batch(NamedTuple):
    streams: dict[str, Tensor]
    lengths: Tensor  # [B]
    labels: Tensor  # [B, U]


def our_loss(model: SignTranslator, batch: Batch) -> Tensor:
    logits = model(batch.streams, batch.lengths, decoder_inputs(batch.labels), draw=0).logits
    return F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten())


def their_loss(model: SignTranslator, batch: Batch) -> Tensor:
    signing = model.encoder(batch.streams, batch.lengths, draw=0)
    inputs = {"inputs_embeds": model.adapter(signing.x), "attention_mask": signing.mask.long()}
    return model.text.mbart(**inputs, labels=batch.labels).loss


def sides(frames: int, clips: int) -> dict[str, Work]:
    """A step of either, dropout drawn alike."""
    encoder = sign_encoder(TranslationModel().encoder, Reads("keypoints", (POINTS,)), 0)
    ours = SignTranslator(encoder, text_model(False)).train()
    theirs = deepcopy(ours)
    mbart = theirs.text.mbart
    theirs.text.mbart = type(mbart)(mbart.config).train()  # as transformers makes it: ours changes its layers
    theirs.text.mbart.load_state_dict(mbart.state_dict())
    keypoints, labels = torch.rand(clips, frames, POINTS, 3), torch.randint(5, 20, (clips, UNITS))
    batch = Batch({"keypoints": keypoints}, torch.full((clips,), frames), labels)

    def step(loss_of: Callable[[SignTranslator, Batch], Tensor], model: SignTranslator) -> Work:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def work() -> Tensor:
            torch.manual_seed(0)
            loss = loss_of(model, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return loss.detach()

        return work

    made = {"ours": step(our_loss, ours), "transformers' own class": step(their_loss, theirs)}
    for _ in range(2):  # the second depends on every gradient of the first
        torch.testing.assert_close(*(work() for work in made.values()), rtol=1e-4, atol=0)
    return made


def rows() -> Iterator[Row]:
    torch.manual_seed(0)
    try:
        times = in_turn(sides(frames=150, clips=8), PAIRS, clock=time.process_time)
    except UserError as absent:
        print(absent, file=sys.stderr)
        return
    what = "translation's training step, phase two, 8 clips of 150 frames, tiny text model"
    yield Row.of(what, times, ours="ours", against="transformers' own class", at_most=1)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--frames", type=int, nargs="+", default=[75, 150, 300, 600], help="of each clip")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="a text model of mbart-large-cc25's sizes")
    args = parser.parse_args(argv)
    print("| frames | seconds a step | memory of a step, GiB | before it, GiB |\n|---|---|---|---|")
    for frames in args.frames:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            took = pool.apply(measure, (Asked(frames, args.clips, args.steps, args.large),))
        print(f"| {frames} | {took.seconds:.2f} | {took.more:.2f} | {took.before:.2f} |", flush=True)


if __name__ == "__main__":
    cli.run(main)
