"""Ranks: one process, torchrun and variables set by hand; and train_multi.sh, with a Python that only prints its
arguments.

Started by a launcher, this file is the program of one rank (`main`).
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from helpers import free_port
from signstream.training import distributed
from signstream.training.distributed import Ranks, auto_threads, physical_cores, pick_device, start

ROOT = Path(__file__).parents[1]
PYTHONPATH = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


def rows_of(rank: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """[2, rank, 3]: rank 0 has none."""
    return (torch.arange(2 * rank * 3).view(2, rank, 3) + 10 * rank).to(dtype)


def check_collectives(ranks: Ranks) -> None:
    rank, world = ranks.rank, ranks.world
    total = torch.full((3, 2), float(rank + 1))
    assert ranks.sum_(total) is total
    assert (total == world * (world + 1) / 2).all()
    view = torch.zeros(2, 3).T
    view += rank
    assert (ranks.sum_(view) == world * (world - 1) / 2).all(), "a tensor that is not contiguous is summed in place too"
    weight = torch.nn.Parameter(torch.full((2,), float(rank)))
    assert (ranks.sum_(weight) == world * (world - 1) / 2).all()

    for dtype in DTYPES:
        gathered = ranks.gather(rows_of(rank, dtype), 1)
        assert gathered.dtype == dtype
        assert torch.equal(gathered, torch.cat([rows_of(r, dtype) for r in range(world)], 1))
    assert ranks.gather(torch.zeros(0, 4)).shape == (0, 4), "no rank has a row"
    assert torch.equal(ranks.gather(torch.full((2,), rank)), torch.arange(world).repeat_interleave(2))

    assert ranks.any(rank == world - 1)
    assert not ranks.any(False)
    assert ranks.broadcast({"path": f"of {rank}"}) == {"path": "of 0"}
    assert ranks.collect(("of", rank)) == [("of", r) for r in range(world)]
    assert ranks.is_main == (rank == 0)
    assert ranks.from_main(lambda: rank) == 0
    with pytest.raises(ValueError, match="gone"):
        ranks.from_main(lambda: Path("/nowhere/gone").read_text())
    ranks.barrier()


def main() -> None:
    with start("cpu", threads=1) as ranks:
        assert ranks.world == int(os.environ["WORLD_SIZE"]) and ranks.rank == int(os.environ["RANK"])
        check_collectives(ranks)
    assert not dist.is_initialized()
    print(f"rank {ranks.rank} of {ranks.world} done")


def test_one_process_needs_no_group(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    with start("cpu", threads=2) as ranks:
        assert (ranks.rank, ranks.world, ranks.device, ranks.threads) == (0, 1, torch.device("cpu"), 2)
        assert torch.get_num_threads() == 2
        assert not dist.is_initialized()
        check_collectives(ranks)
    assert torch.get_num_threads() == before


@pytest.mark.slow  # test_ranks.py trains so every time
def test_two_ranks_under_torchrun_understand_each_other():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": PYTHONPATH}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert all(f"rank {r} of 2 done" in done.stdout for r in range(2))


def test_four_ranks_started_by_hand_understand_each_other():
    common = {
        **os.environ,
        "PYTHONPATH": PYTHONPATH,
        "WORLD_SIZE": "4",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__],
            env={**common, "RANK": str(r), "LOCAL_RANK": str(r)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(4)
    ]
    errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * 4, "\n".join(errors)


def test_the_group_is_left_when_the_program_fails(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    left = []
    monkeypatch.setattr(distributed, "join", lambda ranks: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: left.append(True))
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KeyError), start("cpu"):
        raise KeyError
    assert left == [True]


@pytest.mark.parametrize(
    ("gpus", "device", "local_world", "answer"),
    [
        (0, "auto", 4, "cpu"),
        (0, "cuda", 1, "sees no GPU"),
        (2, "auto", 2, "cuda:1"),
        (2, "cuda", 2, "cuda:1"),
        (2, "cpu", 8, "cpu"),
        (2, "auto", 4, "4 processes on this machine, but torch sees 2 GPUs"),
        (2, "cuda:1", 1, "train.device is 'cuda:1'"),
    ],
)
def test_each_process_has_its_gpu_or_an_error_in_a_line(monkeypatch, gpus, device, local_world, answer):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if " " not in answer:
        assert str(pick_device(device, 1, local_world)) == answer
        return
    with pytest.raises(ValueError, match=answer) as caught:
        pick_device(device, 1, local_world)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "ranks count from 0"),
    ],
)
def test_variables_that_make_no_sense_are_an_error_in_a_line(monkeypatch, variables, message):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message), start("cpu"):
        pass


def test_processes_of_a_machine_share_its_cores():
    cores = physical_cores()
    assert 1 <= cores <= (os.cpu_count() or 1)
    assert auto_threads({}, 1) == cores
    assert auto_threads({"OMP_NUM_THREADS": "1"}, 1) == 1
    assert auto_threads({"OMP_NUM_THREADS": "1"}, 2) == max(cores // 2, 1), "torchrun sets it, not the user"
    assert auto_threads({}, 1000) == 1


@pytest.fixture(scope="module")
def fake_python(tmp_path_factory):
    """A `python` that meets all requirements, sees FAKE_GPUS GPUs, and otherwise prints its arguments."""
    folder = tmp_path_factory.mktemp("bin")
    cases = (
        "*check_requirements.py) exit 0;;",
        '-c) echo "$FAKE_GPUS";;',
        '*) echo "CVD=${CUDA_VISIBLE_DEVICES-all}" "$@"; echo "log: $SIGNSTREAM_LAUNCHER_SAYS" >&2;;',
    )
    (folder / "python").write_text("\n".join(("#!/bin/sh", 'case "$1" in', *cases, "esac", "")))
    (folder / "python").chmod(0o755)
    return folder


def launch(fake_python: Path, gpus: int, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    names = (
        "NUM_GPUS",
        "NUM_PROCS",
        "NNODES",
        "NODE_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
        "CUDA_VISIBLE_DEVICES",
        "DRY_RUN",
    )
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"PATH": f"{fake_python}{os.pathsep}{os.environ['PATH']}", "FAKE_GPUS": str(gpus), **variables}
    return subprocess.run(
        ["bash", str(ROOT / "train_multi.sh"), *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("gpus", "variables", "procs", "warning"),
    [
        (4, {}, 4, ""),
        (4, {"NUM_GPUS": "2"}, 2, ""),
        (1, {"NUM_GPUS": "4"}, 1, "there are 1: using 1"),
        (0, {}, 1, "no GPU here: 1 process"),
        (0, {"NUM_GPUS": "4"}, 1, "no GPU here: 1 process"),
        (4, {"NUM_PROCS": "3"}, 3, "3 processes on the CPU"),
    ],
)
def test_train_multi_starts_a_process_a_gpu(fake_python, gpus, variables, procs, warning):
    done = launch(fake_python, gpus, "--config", "a b.yaml", **variables)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("train_multi: ")]
    assert len(said) == bool(warning) and warning in "".join(said)
    assert f"log: {''.join(said)}" in done.stderr.splitlines(), "what is said is in the run's log too"
    words = shlex.split(done.stdout.replace("a b.yaml", "'a b.yaml'"))
    assert f"--nproc_per_node={procs}" in words and "--standalone" in words
    assert words[-4:] == ["-m", "signstream.training.train_rvq", "--config", "a b.yaml"]
    assert words[0] == ("CVD=" if "NUM_PROCS" in variables else "CVD=all")


def test_train_multi_joins_machines_and_says_what_is_missing(fake_python):
    machines = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "first.host"}
    done = launch(fake_python, 2, **machines)
    assert {"--nnodes=2", "--rdzv_endpoint=first.host:29500", "--rdzv_conf=is_host=false"} <= set(done.stdout.split())
    for missing in ("NODE_RANK", "MASTER_ADDR"):
        done = launch(fake_python, 2, **{name: value for name, value in machines.items() if name != missing})
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith(f"error: NNODES is 2, but {missing} is not set")
    for name, value in {"NUM_GPUS": "all", "NUM_PROCS": "0"}.items():
        done = launch(fake_python, 2, **{name: value})
        assert done.returncode == 2
        assert f"error: {name} is" in done.stderr.splitlines()[-1]


def test_a_dry_run_prints_a_command_that_a_shell_reads_back(fake_python):
    done = launch(fake_python, 2, "--config", "a b.yaml", "data.body_parts={face: [1, 2]}", DRY_RUN="1")
    assert shlex.split(done.stdout)[-3:] == ["--config", "a b.yaml", "data.body_parts={face: [1, 2]}"]


if __name__ == "__main__":
    main()
