# Sourced by every script: enters the repository's root and sets PYTHON to one that has what requirements.txt asks for.
# That is the active Python (a conda environment, say) if it has it, else .venv, made and filled if need be.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

# How long a waiting thread of OpenMP spins before it sleeps, unless the user has said it: as in signstream/cli.py.
# docs/training.md says why.
[ -n "${OMP_WAIT_POLICY+x}${GOMP_SPINCOUNT+x}${KMP_BLOCKTIME+x}" ] || export GOMP_SPINCOUNT=10000 KMP_BLOCKTIME=1

_meets() { "$1" scripts/check_requirements.py requirements.txt; }

_hint=
if ! _active="$(command -v python || command -v python3)"; then
    echo "env: no python found on PATH: install Python 3.10 or newer" >&2
    exit 1
fi
if _why="$(_meets "$_active" 2>&1)"; then
    PYTHON="$_active"
    echo "env: using the active Python, $PYTHON" >&2
elif [ -x .venv/bin/python ] && _meets .venv/bin/python >/dev/null 2>&1; then
    PYTHON="$PWD/.venv/bin/python" _hint=yes
    echo "env: using .venv" >&2
else
    echo "env: the active Python does not do ($_why); filling .venv from requirements.txt, a few minutes" >&2
    _base="$(command -v python3 || echo "$_active")"
    [ -x .venv/bin/python ] || "$_base" -m venv .venv || exit 1
    if ! .venv/bin/python -m pip install -q --disable-pip-version-check -r requirements.txt; then
        echo "env: pip could not install requirements.txt" >&2
        exit 1
    fi
    PYTHON="$PWD/.venv/bin/python" _hint=yes
    echo "env: using .venv" >&2
fi
export PYTHON

# Says what a user types before a `python -m` of README, where that Python is not the active one.
activation_hint() {
    [ -z "$_hint" ] || echo "env: for python -m ..., type this once in a shell: source .venv/bin/activate" >&2
}
