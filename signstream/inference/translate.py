"""Sentences of a split, a clip, a file of tokens or a stream.

    python -m signstream.inference.translate --checkpoint checkpoints/translation --split val --out translated.jsonl
    python -m signstream.inference.translate --checkpoint A B C --split test --out out.jsonl --controls --report x.json
    python -m signstream.inference.translate --checkpoint PATH --split val --out out.jsonl --page translated
    python -m signstream.inference.translate --checkpoint PATH --input clip.npy --n_best 5 --out out.jsonl
    python -m signstream.inference.translate --checkpoint PATH --tokens tokens.jsonl [--split val] --out out.jsonl
    camera | python -m signstream.inference.translate --checkpoint PATH --input -

    python -m signstream.inference.translate --live --checkpoint PATH --split val --out live.jsonl --controls
    python -m signstream.inference.translate --live --checkpoint PATH --policy agree:2 --tokens tokens.jsonl
    camera | python -m signstream.inference.translate --live --checkpoint PATH --tokenizer PATH --input -

A JSON line a clip: name, text, score, with --n_best N the N best, and where the data set has one the sentence that was
meant; then BLEU-4, chrF and ROUGE-L are printed. All files are written whole, or none is. With --tokens, --split names
the split whose clips' sentences the tokens are held against. `-` is standard input, one frame a line: 133 lists of
x px, y px and score; it is one clip, and its line comes when it ends or Ctrl-C ends it. Several checkpoints are
averaged: at each step of the search the mean of their logits decides.

With --live text appears while signing goes on, of a language model that was trained so (docs/prefix_lm.md): a JSON line
a chunk, with what is committed and never changes, what may follow, and when (inference/live_text.py); without --out
they are printed as they come. --input takes the tokenizer whose codes the model reads. --controls then writes two files
more, as live.shuffled.jsonl and live.none.jsonl beside live.jsonl: what is said where each clip hears another one's
chunks, or nothing, for as long.
"""

from __future__ import annotations

from pathlib import Path

from signstream import cli

DECODE = {
    "beams": "of the search; the run's decode.beams unless it is said, and so for the next two",
    "max_tokens": "of a sentence, at most",
    "length_penalty": "a sentence's score is its log-probability / units ** X: above 0, longer ones win",
}


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--split", metavar="NAME", help="of the data set that data.root names")
    parser.add_argument(
        "--tokens", type=Path, metavar="FILE", help="what export_tokens wrote, in any format and layout"
    )
    parser.add_argument("--input", metavar="FILE", help="clip.npy [T, 133 or 134, 3], or - for standard input")
    parser.add_argument("--fps", type=float, help="of the input; the config's unless it says so")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a JSON line a clip; a stream may do without")
    parser.add_argument("--n_best", type=int, default=1, metavar="N", help="of each clip (default: %(default)s)")
    for name, what in DECODE.items():
        of_config = f"decode.{name}={{}}".format
        parser.add_argument(f"--{name}", dest="implied", action="append", type=of_config, metavar="X", help=what)
    parser.add_argument("--controls", action="store_true", help="of who has not seen the signing: BLEU; live, files")
    parser.add_argument(
        "--page", type=Path, metavar="DIR", help="index.html: scores, controls, the worst and the best sentences"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="the scores, as JSON")
    live = parser.add_argument_group("while signing goes on")
    live.add_argument("--live", action="store_true", help="by a prefix language model that was trained for it")
    live.add_argument(
        "--policy",
        metavar="NAME",
        help="when something is said: own:0.5:2 (the default), wait:3:2, agree:2, mix:0.5:0.2:2 or offline",
    )
    live.add_argument("--tokenizer", metavar="PATH", help="a run, which makes codes of --input")
    args = cli.parse_with_checkpoints(parser, argv)

    from signstream.inference.translation.command import translate

    translate(args)


if __name__ == "__main__":
    cli.run(main)
