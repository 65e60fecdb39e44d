"""What `train` and `train_rvq` do, two names of one program: its arguments, then the run."""

from __future__ import annotations

import json
import os
from importlib.machinery import ModuleSpec

from signstream import cli


def train_main(doc: str | None, spec: ModuleSpec | None, argv: list[str] | None) -> int:
    parser = cli.parser(doc, spec)
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="go on from a checkpoint, a run folder, or `auto`: the experiment's newest run, if any",
    )
    parser.add_argument(
        "--wandb-project",
        dest="implied",
        action="append",
        type=lambda name: f"train.log_wandb={json.dumps(name)}",
        metavar="NAME",
        help="log to this project of Weights & Biases as well",
    )
    args = cli.parse_with_config(parser, argv)
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) > 0  # torchrun began anew after a rank died
    going_on = args.checkpoint or ("auto" if restarted else None)

    from signstream.training.run import train

    return train(args.config, args.overrides, going_on)
