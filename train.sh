#!/usr/bin/env bash
# From nothing to a data set that is ready to train on. Without CSL-Daily (a folder or link ./CSL-Daily, or DATA=DIR) it makes the
# synthetic signer. Arguments are options of the config: bash train.sh data.chunk_len=8
set -euo pipefail
source "$(dirname "$0")/scripts/env.sh"

if [ -z "${DATA:-}" ] && [ -e CSL-Daily ]; then
    DATA=CSL-Daily
fi
if [ -z "${DATA:-}" ]; then
    DATA=data/synthetic
    [ -d "$DATA" ] || "$PYTHON" -m signstream.data.synthetic --out "$DATA" --clips 600 --seed 0
fi
"$PYTHON" -m signstream.data.visualize_dataset --config configs/default.yaml --out pictures data.root="$DATA" "$@"
echo "no model yet: the data set $DATA is ready and its pictures are in $PWD/pictures; training comes with the next change"
