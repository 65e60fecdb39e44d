#!/usr/bin/env bash
# Measures every row of benchmarks/RESULTS.md and writes it anew. Nothing else should run meanwhile.
#   bash benchmarks/run.sh
#   bash benchmarks/run.sh --only quantizer,scan --out some.md
set -euo pipefail
source "$(dirname "$0")/../scripts/env.sh"
"$PYTHON" -m benchmarks.results "$@"
