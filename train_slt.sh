#!/usr/bin/env bash
# Trains a translator in two phases: contrast of signing and sentences, then translation from what its encoder learnt.
#   bash train_slt.sh       # without PHOENIX-2014-T: makes the synthetic signer and trains on it, minutes on two cores
#   bash train_slt.sh data.root=PHOENIX-2014-T model.text=facebook/mbart-large-cc25
#   NUM_GPUS=4 bash train_slt.sh data.root=PHOENIX-2014-T     # as train_multi.sh, which says what else there is
# Arguments are options of both phases, at the specification's sizes. Without arguments: PHOENIX-2014-T if there is a
# folder or link ./PHOENIX-2014-T, else the quickstart on data/phoenix14t.
set -euo pipefail
source "$(dirname "$0")/scripts/env.sh"
source scripts/sentences.sh

both() { # SUFFIX OPTION...: both phases by configs/{contrast,translation}SUFFIX.yaml
    local suffix="$1"
    shift
    bash train_multi.sh --config "configs/contrast$suffix.yaml" "$@"
    bash train_multi.sh --config "configs/translation$suffix.yaml" "model.init_from=checkpoints/contrast$suffix" "$@"
}

if [ "$#" -gt 0 ] || [ -e PHOENIX-2014-T ]; then
    both "" "$@"
    activation_hint
    exit 0
fi
[ -d data/phoenix14t ] ||
    "$PYTHON" -m signstream.data.synthetic --layout phoenix14t --out data/phoenix14t --clips 2000 --seed 0
both _quickstart
# The page's path is its last line.
"$PYTHON" -m signstream.inference.translate --checkpoint checkpoints/translation_quickstart --split val \
    --out checkpoints/translation_quickstart/val.jsonl --page checkpoints/translation_quickstart/page
activation_hint
