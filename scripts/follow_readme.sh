#!/usr/bin/env bash
# Types README's commands after `bash train.sh`, one after the other in one shell, as printed; .ci/run calls it.
# What trains for long (train.sh, train_multi.sh), pip, the tests and what is made of the user's own videos (`mine`) are left
# out. Stops at the first that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
commands="$(sed -n '/^```bash$/,/^```$/p' README.md | grep -E '^(source|python) ' | grep -vw mine)"
[ "$(grep -c '^python' <<< "$commands")" -ge 5 ] || { echo "follow_readme: README has hardly a command" >&2; exit 1; }
[ -d .venv ] || commands="$(grep -v '^source .venv' <<< "$commands")" # train.sh found a Python that has all
while read -r command; do
    echo "follow_readme: $command" >&2
    eval "$command" < /dev/null > /dev/null
done <<< "$commands"
