"""Says what a training would run on, and tries it: on each GPU a product, forward and backward, in fp32 and in bf16 as
train.amp has it, held against the CPU's; and how fast a larger one is.

    python -m signstream.training.check_gpu
    CUDA_VISIBLE_DEVICES=1 python -m signstream.training.check_gpu

The exit status is 0 if training can run as it is, on the CPU too where there is no GPU, and 1 if a GPU is there but
fails: a line that begins with `fault:` says what to do."""

from __future__ import annotations

from signstream import cli


def main(argv: list[str] | None = None) -> int:
    cli.parser(__doc__, __spec__).parse_args(argv)

    from signstream.training.gpus import report

    found = report()
    print("\n".join([*found.lines, *(f"fault: {fault}" for fault in found.faults)]))
    return 1 if found.faults else 0


if __name__ == "__main__":
    cli.run(main)
