"""Whether text that appears while somebody signs keeps up for hours, on one thread: time and memory, ten minutes of
signing a line.

    python -m benchmarks.live_text --checkpoint RUN --tokens FILE [--minutes 60] [--policy own:0.5:2]

A live model (docs/prefix_lm.md) hears the file's clips end on end, again and again, as one stream. Printed of each ten
minutes: milliseconds of a chunk, of which half are faster, and 99 of 100; the real-time factor; entries that the window
keeps, and the process's memory.
"""

from __future__ import annotations

import resource
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch

from signstream import cli
from signstream.data.tokens import TokenData
from signstream.inference.live_text import LiveText
from signstream.models.policies import POLICY

TEN_MINUTES = 600_000  # ms
MIB = 1 << 10  # ru_maxrss counts in 1,024 bytes


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--tokens", required=True, type=Path, metavar="FILE")
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--policy", default=POLICY)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    live = LiveText.open(args.checkpoint, policy=args.policy, device="cpu")
    data = TokenData.open(args.tokens, live.digest)
    chunk_ms = 1000 / data.fps * data.chunk_len
    a_line = int(TEN_MINUTES / chunk_ms)
    stream = live.begin("stream", chunk_ms=chunk_ms)
    codes = cycle([chunk for name in data.names for chunk in data.codes(name)])
    for done in range(10, args.minutes + 1, 10):
        spent = [stream.chunk(chunk).computing for chunk in islice(codes, a_line)]
        half, nearly = np.quantile(spent, (0.5, 0.99))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // MIB
        print(
            f"{done:4} min   p50 {half:6.2f} ms   p99 {nearly:6.2f} ms   real-time factor "
            f"{sum(spent) / (a_line * chunk_ms):.4f}   {len(stream.speaker.kept.positions)} entries   {memory} MiB",
            flush=True,
        )


if __name__ == "__main__":
    cli.run(main)
