#!/usr/bin/env bash
# Exports the tokens of a split. Arguments go to signstream.inference.export_tokens:
#   bash export_tokens.sh      # the newest run's best.pt, the validation split -> exports/tokens.jsonl
#   CHECKPOINT_PATH=checkpoints/quickstart NUM_SAMPLES=50 SPLIT=train OUT=exports/train.jsonl \
#       bash export_tokens.sh --layout part
# Without CHECKPOINT_PATH: the best.pt under checkpoints/ whose run began last, of whatever experiment.
set -euo pipefail
source "$(dirname "$0")/scripts/env.sh"
source scripts/checkpoint.sh

echo "export_tokens: $CHECKPOINT_PATH" >&2
exec "$PYTHON" -m signstream.inference.export_tokens --checkpoint "$CHECKPOINT_PATH" \
    --split "${SPLIT:-val}" --out "${OUT:-exports/tokens.jsonl}" ${NUM_SAMPLES:+--num-samples "$NUM_SAMPLES"} "$@"
