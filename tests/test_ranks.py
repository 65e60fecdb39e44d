"""Several ranks: uneven shares, signals, numbers that are none; none waits for another for ever. That ranks train what
one process trains holds for every task, so it is in test_tasks.py."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from clips import moving_clip
from data_sets import note, signer_root, write_csl
from helpers import ROOT, assert_same, begin_loop, case_options, run_steps, tiny_options
from processes import on_ranks
from signstream.data.cache import open_cache
from signstream.io.dataloader_utils import read_clips
from signstream.skeleton import LEFT_HAND, RIGHT_HAND
from signstream.training import checkpoint
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop
from test_tasks import SAME_STEPS, assert_close, lasting, steady


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """17 clips to train on, which neither 2 nor 4 ranks can share evenly, and 3 to validate with: fewer than 4
    ranks."""
    return signer_root(tmp_path_factory.mktemp("signer"), 24, {"train": (0, 17), "val": (17, 20)}, frames=60)


def train_and_revive(options: list[str], steps: int, ranks: Ranks) -> dict:
    loop, revived = begin_loop(options, ranks), 0
    for _ in range(steps):
        run_steps(loop, 1)
        revived += loop.after["revived"]
    return {**lasting(loop), "revived": revived}


def test_ranks_stay_the_same_with_all_that_is_drawn_at_random(root, tmp_path):
    """Augmentation, level dropout, dead codes revived, the usage loss: each rank has its own clips, and all have the
    same model."""
    work = partial(train_and_revive, tiny_options(root, "train.epochs=8", "model.rvq.ema_decay=0.9"), 12)
    ranks = on_ranks(2, work, tmp_path)
    assert ranks[0]["revived"] > 0
    assert_same(ranks[1], ranks[0])


# One step a line: the clips of rank 0, and of rank 1. Clips 6 to 9 show no left hand.
UNEVEN = (
    ((0, 1, 2), (3,)),
    ((4, 5), (6, 7)),
    ((8,), (0, 1, 2, 3)),
    ((9, 0), ()),
    ((), (2,)),
    ((6,), (7,)),
    ((1, 8, 3), (9,)),
)


def train_on_plan(options: list[str], ranks: Ranks) -> dict:
    loop = steady(begin_loop(options, ranks))
    for number, shares in enumerate(UNEVEN):
        clips = shares[ranks.rank] if ranks.world > 1 else shares[0] + shares[1]
        loop.step(read_clips(open_cache(loop.config.data, quiet=True), clips, seed=number))
    return lasting(loop)


@pytest.mark.parametrize("case", ["transformer", "gloss"])
def test_a_rank_with_less_to_see_or_nothing_at_all_is_no_trouble(tmp_path, case):
    """A step whose clips on one rank, or on both, show no left hand; a step with no clip at all on one rank, which
    then has no gradient for a parameter that the other uses. The first two steps are of the warm-up."""
    clips = {f"clip{i}": moving_clip(30 + 4 * i, i) for i in range(10)}
    for i in range(6, 10):
        clips[f"clip{i}"][:, LEFT_HAND:RIGHT_HAND] = 0
    notes = {name: note(poses, gloss=f"SIGN{i % 3}") for i, (name, poses) in enumerate(clips.items())}
    root = write_csl(tmp_path / "data", clips, notes=notes)
    # With a code for each of the few chunks nothing but rounding is left for the next level.
    few = () if case == "gloss" else ("model.rvq.codebook_size=8",)
    for more in ((), ("train.batch_size=1",)):
        work = partial(train_on_plan, case_options(root, case, SAME_STEPS, *few, *more, plain=True))
        (alone,) = on_ranks(1, work, tmp_path)
        ranks = on_ranks(2, work, tmp_path)
        assert_same(ranks[1], ranks[0])
        assert all(torch.isfinite(value).all() for value in ranks[0]["model"].values() if value.is_floating_point())
        assert_close(ranks[0], alone, 1e-5)


def spoil(what: str, options: list[str], ranks: Ranks) -> str:
    """A number that is none, on rank 1 alone; what each rank says of it."""
    loop = begin_loop(options, ranks)
    run_steps(loop, 3)
    weight = loop.task.model.decoder.unpool.weight
    if ranks.rank == 1 and what == "loss":
        weight.data.fill_(float("nan"))
    elif ranks.rank == 1:
        weight.register_hook(lambda gradient: gradient * float("nan"))
    try:
        run_steps(loop, 1)
    except ValueError as error:
        return str(error)
    return "it went on"


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_number_that_is_none_on_one_rank_ends_them_all(root, tmp_path, what):
    said = on_ranks(2, partial(spoil, what, tiny_options(root)), tmp_path)
    assert said[0] == said[1] and said[0].startswith(f"the {what} is nan at step 3: lower train.lr")


def overflow(options: list[str], ranks: Ranks) -> dict:
    loop = begin_loop(options, ranks)
    run_steps(loop, 3)
    before = {name: value.clone() for name, value in loop.task.model.named_parameters()}
    loop.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    if ranks.rank == 1:
        hook = loop.task.model.decoder.unpool.weight.register_hook(lambda gradient: gradient * float("inf"))
    run_steps(loop, 1)
    unchanged = all(torch.equal(value, before[name]) for name, value in loop.task.model.named_parameters())
    if ranks.rank == 1:
        hook.remove()
    run_steps(loop, 1)
    return {"unchanged": unchanged, "scale": loop.scaler.get_scale(), "model": loop.task.model.state_dict()}


@pytest.mark.skipif(not hasattr(torch.amp, "GradScaler"), reason="torch before 2.3 scales on a GPU only")
def test_an_overflow_on_one_rank_leaves_the_step_out_on_all(root, tmp_path):
    together = on_ranks(2, partial(overflow, tiny_options(root)), tmp_path)
    assert all(rank["unchanged"] and rank["scale"] == 2.0 for rank in together)
    assert_same(together[0]["model"], together[1]["model"])
    assert all(torch.isfinite(value).all() for value in together[0]["model"].values() if value.is_floating_point())


# -- the program


def program(arguments: list[str], stop_at: tuple[int, int] | None, rank: int) -> int:
    """train_rvq on this rank; `stop_at`: (rank, step) that gets a SIGTERM."""
    from signstream.training import train_rvq

    real = Loop.step

    def step(loop, *args):
        if stop_at == (rank, loop.steps):
            os.kill(os.getpid(), signal.SIGTERM)
        return real(loop, *args)

    Loop.step = step
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
    return train_rvq.main(["--checkpoint", "auto", *arguments])


def run_of(place: Path) -> Path:
    """The one run's folder."""
    (folder,) = (place / "default").iterdir()
    return folder


def test_a_signal_to_one_rank_stops_all_and_they_go_on(root, tmp_path):
    codes = {}
    for name, stops in (("straight", [None]), ("stopped", [(1, 4), (0, 7), None])):
        place = tmp_path / name
        place.mkdir()
        for stop_at in stops:
            work = partial(
                program,
                [*tiny_options(root, SAME_STEPS, "train.epochs=4", "train.log_every=1"), f"save_path={place}"],
                stop_at,
            )
            codes.setdefault(name, []).append(on_ranks(2, work, place / "ranks", join=False))
    assert codes == {"straight": [[0, 0]], "stopped": [[143, 143], [143, 143], [0, 0]]}
    runs = [run_of(tmp_path / name) for name in codes]
    states = [checkpoint.load(run / "last.pt") for run in runs]
    for state in states:
        state["config"].pop("save_path")
    assert_same(*states)
    assert (runs[0] / "metrics.jsonl").read_bytes() == (runs[1] / "metrics.jsonl").read_bytes()


def test_torchrun_trains_with_two_processes_into_one_folder(root, tmp_path):
    arguments = [*tiny_options(root, "train.epochs=2", "train.log_every=1", "data.workers=1"), f"save_path={tmp_path}"]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "signstream.training.train_rvq",
        *arguments,
    ]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    folder = run_of(tmp_path)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["split"], line["step"]) for line in lines] == [
        ("train", 1),
        ("train", 2),
        ("val", 2),
        ("train", 3),
        ("train", 4),
        ("val", 4),
    ]
    assert done.stdout.count("done: step 4") == 1 and "2 processes on cpu" in done.stdout
    assert len(list((folder / "tensorboard").iterdir())) == 1
    state = checkpoint.load(folder / "last.pt")
    assert state["step"] == 4 and len(state["generators"]) == 2
