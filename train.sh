#!/usr/bin/env bash
# Trains a tokenizer with one process. Arguments go to signstream.training.train_rvq:
#   bash train.sh      # without CSL-Daily: makes the synthetic signer and trains on it, minutes on two cores
#   bash train.sh --config configs/default.yaml data.root=CSL-Daily     # CSL-Daily on one GPU
#   bash train.sh --config configs/default.yaml --checkpoint auto       # goes on where the newest run stopped
# Without arguments: CSL-Daily if there is a folder or link ./CSL-Daily, else the quickstart on data/synthetic.
set -euo pipefail
source "$(dirname "$0")/scripts/env.sh"

if [ "$#" -gt 0 ]; then
    activation_hint
    exec "$PYTHON" -m signstream.training.train_rvq "$@"
fi
if [ -e CSL-Daily ]; then
    activation_hint
    exec "$PYTHON" -m signstream.training.train_rvq --config configs/default.yaml data.root=CSL-Daily
fi
[ -d data/synthetic ] || "$PYTHON" -m signstream.data.synthetic --out data/synthetic --clips 1000 --seed 0
"$PYTHON" -m signstream.data.visualize_dataset --config configs/quickstart.yaml --out pictures
"$PYTHON" -m signstream.training.train_rvq --config configs/quickstart.yaml
# The page's path is its last line.
"$PYTHON" -m signstream.inference.evaluate --checkpoint checkpoints/quickstart --split val --visualize
activation_hint
