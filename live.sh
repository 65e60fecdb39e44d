#!/usr/bin/env bash
# Opens the live page: who signs, what the tokens tell of it, and the text as it is said. docs/live.md says more.
#   bash live.sh                          # the synthetic signer; what is missing is trained first, minutes on two cores
#   CAMERA=1 bash live.sh                 # your camera; what finds hands in pictures is added to .venv
#   bash live.sh --video clip.mp4 --record data/mine      # a video, likewise; arguments go to signstream.inference.live
# CHECKPOINT_PATH and LM_PATH are a tokenizer and a language model that was trained live on its tokens: without them those
# of the quickstarts, which train_lm.sh trains.
set -euo pipefail
source "$(dirname "$0")/scripts/env.sh"
source scripts/sentences.sh

signer=(--demo)
if [ -n "${CAMERA:-}" ] || [[ " $* " == *" --video"* ]]; then
    signer=()
    need video av mediapipe
fi
if [ -z "${LM_PATH:-}" ]; then
    LM_PATH=checkpoints/prefix_lm_live_quickstart
    if ! compgen -G "$LM_PATH/*/best.pt" > /dev/null; then
        if [ -e CSL-Daily ]; then
            echo "error: name your runs, CHECKPOINT_PATH=RUN LM_PATH=RUN bash live.sh: train_lm.sh trains the latter" >&2
            exit 2
        fi
        bash train_lm.sh
    fi
fi
activation_hint
exec "$PYTHON" -m signstream.inference.live "${signer[@]}" \
    --checkpoint "${CHECKPOINT_PATH:-checkpoints/quickstart}" --lm "$LM_PATH" "$@"
