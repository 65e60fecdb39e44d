# Sourced by every script: enters the repository's root and sets PYTHON to one that has what requirements.txt asks for.
# That is the active Python (a conda environment, say) if it has it, else .venv, made and filled if need be.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

_meets() { "$1" scripts/check_requirements.py requirements.txt; }

_active="$(command -v python || command -v python3)" || { echo "env: no python found on PATH: install Python 3.10 or newer" >&2; exit 1; }
if _why="$(_meets "$_active" 2>&1)"; then
    PYTHON="$_active"
    echo "env: using the active Python, $PYTHON" >&2
elif [ -x .venv/bin/python ] && _meets .venv/bin/python >/dev/null 2>&1; then
    PYTHON="$PWD/.venv/bin/python"
    echo "env: using .venv" >&2
else
    echo "env: the active Python does not do ($_why); filling .venv from requirements.txt, a few minutes" >&2
    _base="$(command -v python3 || echo "$_active")"
    [ -x .venv/bin/python ] || "$_base" -m venv .venv || exit 1
    .venv/bin/python -m pip install -q --disable-pip-version-check -r requirements.txt || { echo "env: pip could not install requirements.txt" >&2; exit 1; }
    PYTHON="$PWD/.venv/bin/python"
    echo "env: using .venv" >&2
fi
export PYTHON
