#!/usr/bin/env bash
# The one test command. Arguments go to pytest: bash tests/run.sh tests/test_config.py -k alias
set -euo pipefail
source "$(dirname "$0")/../scripts/env.sh"
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 # small operations on many threads are many times slower on a busy machine
exec "$PYTHON" -m pytest "$@"
