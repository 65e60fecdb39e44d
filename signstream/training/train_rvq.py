"""Trains a tokenizer: the specification's name for signstream.training.train, which trains whatever task the config
names.

    python -m signstream.training.train_rvq --config configs/default.yaml data.root=DIR
    torchrun --nproc_per_node=4 -m signstream.training.train_rvq --config configs/default.yaml
    python -m signstream.training.train_rvq --config configs/default.yaml --checkpoint auto

`--checkpoint auto` goes on where the newest run stopped. Everything lies in <save_path>/<experiment_name>/<time>/.
SIGTERM and Ctrl-C save and leave."""

from __future__ import annotations

from signstream import cli


def main(argv: list[str] | None = None) -> int:
    args = cli.parse_training(cli.parser(__doc__, __spec__), argv)

    from signstream.training.run import train

    return train(args.config, args.overrides, args.checkpoint)


if __name__ == "__main__":
    cli.run(main)
