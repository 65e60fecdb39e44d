#!/usr/bin/env bash
# Trains on all GPUs of this machine, or of several. Arguments go to signstream.training.train_rvq:
#   NUM_GPUS=4 bash train_multi.sh --config configs/default.yaml data.root=CSL-Daily      # NUM_GPUS: all there are
#   NUM_PROCS=2 bash train_multi.sh ...      # so many processes on the CPU, GPUs or not
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=first.host MASTER_PORT=29500 bash train_multi.sh ...
#                                            # on each machine, with its own NODE_RANK
# A process that dies ends the others, and all start again, MAX_RESTARTS times (1). DRY_RUN=1 prints the command.
set -euo pipefail
source "$(dirname "$0")/scripts/env.sh"

fail() { echo "error: $1" >&2; exit 2; }
for name in NUM_GPUS NUM_PROCS NNODES NODE_RANK MASTER_PORT MAX_RESTARTS; do
    [[ "${!name:-0}" =~ ^[0-9]+$ ]] || fail "$name is '${!name}': a whole number is expected"
done
for name in NUM_GPUS NUM_PROCS NNODES; do
    [ "${!name:-1}" -ge 1 ] || fail "$name is ${!name}: at least 1 is expected"
done

note=
if [ -n "${NUM_PROCS:-}" ]; then
    export CUDA_VISIBLE_DEVICES=
    procs=$NUM_PROCS
    note="$procs processes on the CPU"
else
    gpus="$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')"
    procs="${NUM_GPUS:-$gpus}"
    if [ "$gpus" -eq 0 ]; then
        procs=1
        note="${NUM_GPUS:+NUM_GPUS is $NUM_GPUS, but }no GPU here: 1 process on the CPU (NUM_PROCS=n: more of them)"
    elif [ "$procs" -gt "$gpus" ]; then
        procs=$gpus
        note="NUM_GPUS is $NUM_GPUS, but there are $gpus: using $gpus"
    fi
fi
# The run's log begins with it, for whoever asks later why the run was slow.
export SIGNSTREAM_LAUNCHER_SAYS="${note:+train_multi: $note}"
[ -z "$SIGNSTREAM_LAUNCHER_SAYS" ] || echo "$SIGNSTREAM_LAUNCHER_SAYS" >&2
if [ "$procs" -gt 1 ]; then
    # What torchrun would set, with a warning; train.threads decides for torch itself.
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
fi

nodes="${NNODES:-1}"
if [ "$nodes" -eq 1 ] && [ -z "${MASTER_PORT:-}" ]; then
    meeting=(--standalone)
elif [ "$nodes" -eq 1 ]; then
    meeting=(--rdzv_backend=c10d "--rdzv_endpoint=localhost:$MASTER_PORT")
else
    [ -n "${MASTER_ADDR:-}" ] ||
        fail "NNODES is $nodes, but MASTER_ADDR is not set: the first machine's address is expected"
    [ -n "${NODE_RANK:-}" ] ||
        fail "NNODES is $nodes, but NODE_RANK is not set: 0 on the first machine, then 1, 2, ..."
    [ "$NODE_RANK" -lt "$nodes" ] || fail "NODE_RANK is $NODE_RANK of $nodes machines: they count from 0"
    first=$([ "$NODE_RANK" -eq 0 ] && echo true || echo false)
    meeting=(--rdzv_backend=c10d "--rdzv_endpoint=$MASTER_ADDR:${MASTER_PORT:-29500}" --rdzv_id=signstream
        "--rdzv_conf=is_host=$first")
fi

command=("$PYTHON" -m torch.distributed.run "--nnodes=$nodes" "--nproc_per_node=$procs"
    "--max_restarts=${MAX_RESTARTS:-1}" "${meeting[@]}" -m signstream.training.train_rvq "$@")
if [ -n "${DRY_RUN:-}" ]; then
    printf '%q ' "${command[@]}"
    echo
    exit 0
fi
exec "${command[@]}"
