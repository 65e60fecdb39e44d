# Sourced after env.sh: sets CHECKPOINT_PATH, unless it is set, to the best.pt under checkpoints/ of the tokenizer whose
# run began last, of whatever experiment.

if [ -z "${CHECKPOINT_PATH:-}" ]; then
    _newest=
    for _file in checkpoints/*/*/best.pt; do
        _run="$(basename "$(dirname "$_file")")"
        _task="$(sed -n 's/^task: *//p' "$(dirname "$_file")/config.yaml" 2> /dev/null || true)"
        if [ -f "$_file" ] && [ "${_task:-rvq}" = rvq ] && [[ "$_run" > "$_newest" ]]; then
            _newest=$_run CHECKPOINT_PATH=$_file
        fi
    done
    if [ -z "$_newest" ]; then
        echo "error: there is no checkpoints/*/*/best.pt of a tokenizer: train first (bash train.sh), or set CHECKPOINT_PATH" >&2
        exit 2
    fi
fi
