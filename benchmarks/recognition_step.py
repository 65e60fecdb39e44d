"""A recogniser's training step beside nn.LSTM in place of its mixers, and what a frame of a stream takes.

    python -m benchmarks.recognition_step [--depth 2] [--pairs 10]

Trained: configs/recognition.yaml's network that reads codes of 5 parts x 3 levels x 1,024, with `--depth` blocks of the
default width and without what drops, on 32 clips of 60 chunks; forward, CTC, backward and AdamW. The other side has the
same weights but for the mixers: nn.LSTM both ways, and a layer behind it, as many weights; no clip is padded, so it
packs nothing. Streamed, frame by frame: a causal recogniser of keypoints by the two configs, front end and path
included, the mean of the frames that make a step; and the temporal layer alone. One thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.pairs import PAIRS, Row, Work, in_turn, over, shown_seconds
from benchmarks.scan import stream
from signstream import cli
from signstream.config import load_config
from signstream.config.recognition import RecognitionConfig
from signstream.data.frontend import FrontEnd
from signstream.inference.recognition.live import LivePath
from signstream.models.ctc_path import ctc_cost
from signstream.models.recognition import Recognizer
from signstream.skeleton import COCO_WHOLEBODY
from signstream.tasks.recognition.build import front_of, model_of
from signstream.training.optim import build_optimizer, groups_of

CLIPS, CHUNKS, GLOSSES, UNITS = 32, 60, 1200, 8
SHAPE = (5, 3, 1024, 256)  # parts, levels, codes, width of a latent
NOTHING_DROPS = ("model.dropout=0", "model.drop_path=0")
STREAMS = ("recognition_quickstart", "recognition")
FRAMES = 200  # of a stream that is timed
MOST = 1e-3  # seconds a streamed frame may take


class Lstm(nn.Module):
    """In place of a mixer, as one would write it first."""

    def __init__(self, width: int, weights: int) -> None:
        super().__init__()
        hidden = 8
        while self.count(width, hidden + 8) <= weights:
            hidden += 8
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, width, bias=False)

    @staticmethod
    def count(width: int, hidden: int) -> int:
        """Weights: four gates a direction, each of what comes in and of what it said before; and the layer behind."""
        return 8 * hidden * (width + hidden) + 2 * hidden * width

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0])


def with_lstm(model: Recognizer) -> Recognizer:
    other = deepcopy(model)
    for block in other.blocks:
        weights = sum(weight.numel() for weight in block.mixer.parameters())
        block.mixer = Lstm(block.norm1.normalized_shape[0], weights)
    return other


def training(depth: int) -> dict[str, Work]:
    options = ["data.source=codes", "data.tokens=exports/{split}.jsonl", f"model.depth={depth}", *NOTHING_DROPS]
    config = load_config("configs/recognition.yaml", options, kind=RecognitionConfig)
    model = model_of(config, front_of(config, SHAPE), GLOSSES).train()
    codes, lengths = torch.randint(SHAPE[2], (CLIPS, CHUNKS, *SHAPE[:2])), torch.full((CLIPS,), CHUNKS)
    targets = torch.randint(1, GLOSSES, (CLIPS * UNITS,))

    def side(model: Recognizer) -> Work:
        optimizer = build_optimizer(groups_of(model), config.train)

        def step() -> None:
            log_probs = model({"codes": codes}, lengths).log_probs
            cost = ctc_cost(log_probs, targets, steps=model.steps(lengths), units=[UNITS] * CLIPS)
            (cost / (CLIPS * UNITS)).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step

    return {"ours": side(model), "nn.LSTM for its mixers": side(with_lstm(model))}


class Streamed(NamedTuple):
    """Seconds of a frame."""

    mean: float
    at_a_step: float  # median of those frames that make a step, with all its blocks


@torch.no_grad()
def streamed(name: str) -> Streamed:
    config = load_config(f"configs/{name}.yaml", ["data.source=keypoints", "model.causal=true"], kind=RecognitionConfig)
    model = model_of(config, front_of(config, ()), GLOSSES).eval()
    front, memory, path = FrontEnd(COCO_WHOLEBODY, config.data), model.begin(), LivePath()
    spent, steps = [], []
    for frame in torch.rand(FRAMES, 1, COCO_WHOLEBODY.num_joints, 3).mul(200):
        began = time.process_time()
        streams = {"keypoints": front.push(frame).frames[None]}
        log_probs, memory = model.step(streams, memory)
        path.push(log_probs[0])
        spent.append(time.process_time() - began)
        steps.append(log_probs.shape[1])
    kept = list(zip(spent, steps))[FRAMES // 4 :]  # the front end looks ahead, and the first are slow
    return Streamed(
        statistics.mean(seconds for seconds, _ in kept), statistics.median(seconds for seconds, step in kept if step)
    )


def limit(what: str, seconds: float) -> Row:
    return Row(what, shown_seconds(seconds), "the limit", shown_seconds(MOST), seconds / MOST, at_most=1)


def rows() -> Iterator[Row]:
    torch.manual_seed(0)
    times = in_turn(training(2), PAIRS, clock=time.process_time)
    what = f"recogniser's training step from tokens, {CLIPS} clips of {CHUNKS} chunks"
    yield Row.of(what, times, ours="ours", against="nn.LSTM for its mixers", at_most=1)
    yield limit("a streamed step of the causal layer, width 512", stream() / 1e3)
    for name in STREAMS:
        took = streamed(name)
        yield limit(f"recogniser, a streamed frame, {name}.yaml, mean", took.mean)
        yield limit(f"recogniser, a streamed frame that makes a step, {name}.yaml", took.at_a_step)


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--depth", type=int, default=2, help="blocks")
    parser.add_argument("--pairs", type=int, default=10)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    times = in_turn(training(args.depth), args.pairs, clock=time.process_time)
    for name, spent in times.items():
        print(f"{name:24} {shown_seconds(statistics.median(spent)):>9}")
    print(f"ours over the other {over(times, *times):14.2f} x")
    print(f"\na streamed step of the causal layer, width 512: {shown_seconds(stream() / 1e3)}")
    for name in STREAMS:
        took = streamed(name)
        print(f"{name}: a frame {shown_seconds(took.mean)}, one that makes a step {shown_seconds(took.at_a_step)}")


if __name__ == "__main__":
    cli.run(main)
