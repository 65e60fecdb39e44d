"""Holds what export_model wrote against the checkpoint it was made of, on chunks of real clips and on chunks drawn at
random.

    python -m signstream.inference.check_export exports/quickstart.encoder.onnx
    python -m signstream.inference.check_export exports/encoder.pt2 --trust --checkpoint PATH --data ROOT

The checkpoint is the one named, or the newest run of the experiment that the file names; the file's digest must be its.
Real chunks are those of 20 clips of the validation split of --data, else of the checkpoint's own data; where there are
none, that is said. An encoder holds if 99.9 % of its codes are PyTorch's (fp16: 99 %), a decoder if its poses are
within 1e-4 unit lengths of PyTorch's (fp16: 0.1), on the real chunks and on the random ones. Ties are set aside: where
two codes are equally far to 1e-5, either is right, and so is what the deeper levels make of it. The exit status is 1 if
the file does not hold.

A TorchScript or .pt2 file is a program, which may do anything: it is opened only with --trust. An ONNX file is none.
"""

from __future__ import annotations

from pathlib import Path

from signstream import cli


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("file", type=Path, metavar="FILE", help="what export_model wrote")
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="a checkpoint, a run's folder or an experiment's; else the one that the file names",
    )
    parser.add_argument("--data", metavar="ROOT", help="a data root with real clips; else the checkpoint's own")
    parser.add_argument("--trust", action="store_true", help="open a TorchScript or .pt2 file, which is a program")
    what = "for example data.layout=npz, how the clips are read, or train.threads=2"
    args = cli.parse_with_overrides(parser, argv, what)

    from signstream.inference.model_file.command import check_export

    return check_export(args)


if __name__ == "__main__":
    cli.run(main)
