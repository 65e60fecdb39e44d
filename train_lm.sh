#!/usr/bin/env bash
# Trains a language model with signs as its prefix that speaks while signing goes on, and hears what it says.
#   bash train_lm.sh       # without CSL-Daily: on the synthetic signer, with train.sh's tokenizer, minutes on two cores
#   CHECKPOINT_PATH=checkpoints/default bash train_lm.sh data.root=CSL-Daily model.lm=Qwen/Qwen2.5-0.5B
#   NUM_GPUS=4 bash train_lm.sh data.root=CSL-Daily     # as train_multi.sh, which says what else there is
# Arguments are options of the training, at the specification's sizes; the tokens, in exports/, are of the tokenizer's own
# data set. CHECKPOINT_PATH is the tokenizer: without it the newest, in the quickstart checkpoints/quickstart.
# Without arguments: CSL-Daily if there is a folder or link ./CSL-Daily, else the quickstart on data/synthetic_near.
set -euo pipefail
source "$(dirname "$0")/scripts/env.sh"
source scripts/sentences.sh

export_to() { # FOLDER OPTION...: the tokens to train on, and those to hear
    local folder="$1"
    shift
    for split in train val; do
        "$PYTHON" -m signstream.inference.export_tokens --checkpoint "$CHECKPOINT_PATH" --split "$split" \
            --out "$folder/$split.jsonl" "$@"
    done
}

if [ "$#" -gt 0 ] || [ -e CSL-Daily ]; then
    source scripts/checkpoint.sh
    export_to exports
    bash train_multi.sh --config configs/prefix_lm.yaml model.form=live "$@"
    activation_hint
    exit 0
fi

if [ -z "${CHECKPOINT_PATH:-}" ]; then
    CHECKPOINT_PATH=checkpoints/quickstart
    if ! compgen -G "$CHECKPOINT_PATH/*/best.pt" > /dev/null; then
        [ -d data/synthetic ] || "$PYTHON" -m signstream.data.synthetic --out data/synthetic --clips 1000 --seed 0
        "$PYTHON" -m signstream.training.train_rvq --config configs/quickstart.yaml
    fi
fi
# The people that the tokenizer knows, with texts whose words follow the signs: of the usual ones little can be said early.
[ -d data/synthetic_near ] ||
    "$PYTHON" -m signstream.data.synthetic --text near --out data/synthetic_near --clips 2000 --seed 0
export_to exports/near data.root=data/synthetic_near
bash train_multi.sh --config configs/prefix_lm_live_quickstart.yaml

run=checkpoints/prefix_lm_live_quickstart
hear() { # POLICY NAME OPTION...: val, to live/NAME.jsonl
    "$PYTHON" -m signstream.inference.translate --live --checkpoint "$run" --split val --policy "$1" \
        --out "$run/live/$2.jsonl" "${@:3}"
}
hear own:0.5:2 own --controls
hear mix:0.5:0.2:2 mix
hear agree:2 agree
# The page's path is its last line.
"$PYTHON" -m signstream.inference.live_report --checkpoint "$run" --split val --out "$run/page" \
    --events "$run"/live/{own,mix,agree}.jsonl \
    --beside "shuffled=$run/live/own.shuffled.jsonl" "none=$run/live/own.none.jsonl"
activation_hint
