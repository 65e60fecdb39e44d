# Sourced after env.sh by what trains on sentences: what only these need goes into .venv, if that is what runs, as env.sh
# fills it.

_script="$(basename "$0" .sh)"
if ! "$PYTHON" -c 'import sacrebleu, tokenizers, transformers' 2> /dev/null; then
    mapfile -t _extras < <(grep -oE '^(sacrebleu|tokenizers|transformers)[^ #]*' requirements-extra.txt)
    if [ "$PYTHON" != "$PWD/.venv/bin/python" ]; then
        echo "$_script: $PYTHON lacks some of ${_extras[*]}: type pip install -e '.[translation]'" >&2
        exit 1
    fi
    echo "$_script: adding ${_extras[*]} to .venv" >&2
    "$PYTHON" -m pip install -q --disable-pip-version-check "${_extras[@]}"
fi
