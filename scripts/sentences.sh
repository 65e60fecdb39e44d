# Sourced after env.sh by what trains on sentences: what only these need.

source scripts/extras.sh
need translation sacrebleu tokenizers transformers
