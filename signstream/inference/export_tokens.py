"""Writes the tokens of a split, one JSON line a clip.

    python -m signstream.inference.export_tokens --checkpoint checkpoints/quickstart --out exports/val.jsonl
    python -m signstream.inference.export_tokens --checkpoint PATH --num-samples 10 --layout part --out part.jsonl
    python -m signstream.inference.export_tokens --checkpoint PATH --out exports/tokens.jsonl --to-llm --tokenizer DIR
    python -m signstream.inference.export_tokens --checkpoint PATH --out tokens.jsonl --tokenizer DIR --live
    torchrun --nproc_per_node=4 -m signstream.inference.export_tokens --checkpoint PATH --split train --out train.jsonl

Without --checkpoint: best.pt of the config's newest run. Without --config: the checkpoint's own, with key.path=value
on top. Finished clips wait in .<out>.rank<r>.part beside the output; the same command goes on with them, whatever the
number of ranks. Beside the output, under its name without the ending: .vectors.npz, what each code stands for; with
--latents .latents.npy; with --to-llm .llm.jsonl, what a language model is trained on, .added_tokens.json and the
vectors of these, .added_vectors.npz; with --live also .live.jsonl, what one that speaks while signing goes on is
trained on. A clip that fails is named with its reason, the rest is written, and the exit status is 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from signstream import cli

CHECKPOINT_HELP = "a checkpoint, a run's folder or an experiment's; else the config's newest run"


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--checkpoint", metavar="PATH", help=CHECKPOINT_HELP)
    parser.add_argument("--split", default="val", help="(default: %(default)s)")
    parser.add_argument("--num-samples", type=int, metavar="N", help="only the first N clips of the split")
    parser.add_argument(
        "--augment",
        type=int,
        metavar="SEED",
        help="of clips changed as training changes them (data.augment): other tokens of the same signing, to train on",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    add_form(parser)
    args = cli.parse_with_config(parser, argv)

    from signstream.inference.export import export_tokens

    return export_tokens(args)


def add_form(parser: argparse.ArgumentParser) -> None:
    """What is written of a clip."""
    parser.add_argument(
        "--format", choices=("jsonl", "json"), default="jsonl", help="a clip a line, or one list (default: %(default)s)"
    )
    parser.add_argument(
        "--layout", choices=("chunk", "part"), default="chunk", help="tokens by chunk or by part (default: %(default)s)"
    )
    parser.add_argument(
        "--rle",
        action=argparse.BooleanOptionalAction,
        help="hold and write runs, or not; the config's export.enable_rle",
    )
    parser.add_argument("--body-parts", nargs="+", metavar="TAG", help="only these, for example F LH RH")
    parser.add_argument("--latents", action="store_true", help="what the quantiser was given as well, in float16")
    parser.add_argument("--to-llm", action="store_true", help="ids and labels for a language model as well")
    parser.add_argument(
        "--text-vocab-size",
        type=int,
        metavar="N",
        help="where the signs' ids begin; without --tokenizer text stays text",
    )
    parser.add_argument(
        "--tokenizer", metavar="PATH", help="the text's tokenizer, as transformers' AutoTokenizer takes it"
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="with --to-llm: also what can be said behind each chunk, live",
    )
    parser.add_argument(
        "--signs", type=Path, metavar="FILE", help="where glosses are if no annotation says: recognize's --out"
    )
    parser.add_argument("--wait", type=int, metavar="CHUNKS", help="with --live: words are due so much later")


if __name__ == "__main__":
    cli.run(main)
