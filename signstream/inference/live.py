"""From a camera to text: a page on this machine that shows who signs, what the tokens tell of it, and what is said.

    python -m signstream.inference.live --demo                    # the synthetic signer; needs no camera
    python -m signstream.inference.live                           # your camera; needs pip install -e '.[video]'
    python -m signstream.inference.live --video clip.mp4 --checkpoint RUN --lm RUN [--recogniser RUN]
    python -m signstream.inference.live --record data/mine        # the page then has a button that keeps clips

It prints the address of the page, on 127.0.0.1 alone, and opens it. Tokenizer and language model are those of the
quickstarts where no other is named and these are there; `none` leaves one out, and the page says what is missing.
Nothing that is seen leaves this machine, and nothing is kept unless --record and its button say so. Ctrl-C ends it.
docs/live.md says more.
"""

from __future__ import annotations

from pathlib import Path

from signstream import cli


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    who = parser.add_argument_group("who signs", "without any of these: your camera, through the browser")
    who.add_argument("--demo", action="store_true", help="the synthetic signer")
    who.add_argument("--video", type=Path, metavar="FILE", help="a video, at its own pace")
    reads = parser.add_argument_group("who reads")
    run = "a checkpoint, a run's folder or an experiment's: its newest run"
    reads.add_argument("--checkpoint", metavar="PATH", help=f"a tokenizer: {run} (default: the quickstart's, if any)")
    reads.add_argument("--recogniser", metavar="PATH", help="likewise, a causal recogniser (default: none)")
    reads.add_argument("--lm", metavar="PATH", help="likewise, a live language model (likewise the quickstart's)")
    reads.add_argument("--policy", metavar="NAME", help="when words are said (default: as translate --live)")
    reads.add_argument("--device", default="auto", help="cpu, cuda or auto (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 (the default): any free one")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument("--record", type=Path, metavar="DIR", help="lets the page keep clips there, with their tokens")
    args = parser.parse_args(argv)

    from signstream.inference.live_page.command import live

    live(args)


if __name__ == "__main__":
    cli.run(main)
