# Sourced after env.sh. need EXTRA PACKAGE...: what requirements-extra.txt says of these packages goes into .venv, if that is
# what runs, as env.sh fills it; a Python of the user's own is left as it is, and told.

need() {
    local extra="$1" script listed
    shift
    script="$(basename "$0" .sh)"
    ! "$PYTHON" -c "import $(IFS=,; echo "$*")" 2> /dev/null || return 0
    mapfile -t listed < <(grep -oE "^($(IFS='|'; echo "$*"))[^ #;]*" requirements-extra.txt)
    if [ "$PYTHON" != "$PWD/.venv/bin/python" ]; then
        echo "$script: $PYTHON lacks some of ${listed[*]}: type pip install -e '.[$extra]'" >&2
        exit 1
    fi
    echo "$script: adding ${listed[*]} to .venv" >&2
    "$PYTHON" -m pip install -q --disable-pip-version-check "${listed[@]}"
}
