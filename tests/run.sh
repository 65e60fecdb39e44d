#!/usr/bin/env bash
# The one test command. Arguments go to pytest: bash tests/run.sh tests/test_config.py -k alias
# Without arguments two processes share the files, if pytest-xdist is installed.
set -euo pipefail
source "$(dirname "$0")/../scripts/env.sh"
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 # small operations on many threads are many times slower on a busy machine
if [ "$#" -eq 0 ] && "$PYTHON" -c "import xdist" 2> /dev/null; then
    set -- -n 2 --dist loadfile
fi
exec "$PYTHON" -m pytest "$@"
