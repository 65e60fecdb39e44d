"""Glosses of a split, a clip, a file of tokens or a stream, each with its frames and how sure it is.

    python -m signstream.inference.recognize --checkpoint checkpoints/recognition --split val --out recognised.jsonl
    python -m signstream.inference.recognize --checkpoint PATH --split test --out out.jsonl --ctm out.ctm --stm ref.stm
    python -m signstream.inference.recognize --checkpoint PATH --input clip.npy --out out.jsonl
    python -m signstream.inference.recognize --checkpoint PATH --tokens tokens.jsonl [--split val] --out out.jsonl
    camera | python -m signstream.inference.recognize --checkpoint PATH --input -

A JSON line a clip: name, glosses, signs (gloss, first and last frame, confidence), fps, num_frames, score and, where
the data set has one, the reference; then the word error rate is printed. All files are written whole, or none is.
With --tokens, --split names the split whose clips' words the tokens are held against. `-` is standard input, one frame
a line: 133 lists of x px, y px and score. It needs a causal recogniser of keypoints; a header comes first, then a line
a gloss as soon as nothing can change it, with the time that its last step took and how many frames had come in after
the gloss's own. The last one comes when the input ends or Ctrl-C ends it. Memory does not grow.
"""

from __future__ import annotations

from pathlib import Path

from signstream import cli


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    cli.add_checkpoint(parser)
    parser.add_argument("--split", metavar="NAME", help="of the data set that data.root names")
    parser.add_argument(
        "--tokens", type=Path, metavar="FILE", help="what export_tokens wrote, in any format and layout"
    )
    parser.add_argument("--input", metavar="FILE", help="clip.npy [T, 133 or 134, 3], or - for standard input")
    parser.add_argument("--fps", type=float, help="of the input; the config's unless it says so")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a JSON line a clip; a stream may do without")
    parser.add_argument("--ctm", type=Path, metavar="FILE", help="what was recognised, as sclite reads it")
    parser.add_argument("--stm", type=Path, metavar="FILE", help="the references, as sclite reads them")
    args = cli.parse_with_config(parser, argv)

    from signstream.inference.recognition.command import recognise

    recognise(args)


if __name__ == "__main__":
    cli.run(main)
