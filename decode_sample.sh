#!/usr/bin/env bash
# Draws a clip beside its reconstruction, with its tokens, as an animation. Arguments go to
# signstream.inference.visualizer:
#   bash decode_sample.sh      # the newest run's best.pt, the validation split's first clip
#   CHECKPOINT_PATH=checkpoints/quickstart SAMPLE_ID=S000123_P0000_T00 SPLIT=test OUT=sample.gif \
#       bash decode_sample.sh --frames 90
# Without CHECKPOINT_PATH: the best.pt under checkpoints/ whose run began last, of whatever experiment.
# OUT may end in .mp4 where ffmpeg is installed.
set -euo pipefail
source "$(dirname "$0")/scripts/env.sh"
source scripts/checkpoint.sh

echo "decode_sample: $CHECKPOINT_PATH" >&2
exec "$PYTHON" -m signstream.inference.visualizer --checkpoint "$CHECKPOINT_PATH" \
    --split "${SPLIT:-val}" ${SAMPLE_ID:+--sample="$SAMPLE_ID"} --out "${OUT:-exports/${SAMPLE_ID:-sample}.gif}" "$@"
