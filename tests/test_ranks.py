"""Several ranks train what one process trains on their batches joined, and none waits for another for ever."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from clips import moving_clip
from helpers import ARCHS, PLAIN, assert_same, begin_loop, free_port, run_steps, signer_root, tiny_options, write_csl
from signstream.data.collate import pack
from signstream.skeleton import LEFT_HAND, RIGHT_HAND
from signstream.tasks.rvq.validation import validate
from signstream.training import checkpoint
from signstream.training.distributed import Ranks, start
from signstream.training.loop import Loop

ROOT = Path(__file__).parents[1]
SAME_STEPS = "train.scale_with_world=false"  # a step holds as many clips whatever the number of ranks
PROCESSES = multiprocessing.get_context("forkserver")  # imports torch once; each rank is a fork of that
PROCESSES.set_forkserver_preload(
    [
        "signstream.training.train_rvq",
        "signstream.tasks.rvq.validation",
        "signstream.tasks.rvq.pictures",
        "signstream.pictures.figure",
        "torch.utils.tensorboard",
        "torch._dynamo",
    ]
)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """17 clips to train on, which neither 2 nor 4 ranks can share evenly, and 3 to validate with: fewer than 4 ranks."""
    return signer_root(tmp_path_factory.mktemp("signer"), 24, {"train": (0, 17), "val": (17, 20)})


def on_ranks(world: int, work: Callable, folder: Path, join: bool = True) -> list:
    """What `work(ranks)` gives on each rank, saved and loaded; one process needs no group. `join` False: `work(rank)` joins the ranks itself."""
    folder.mkdir(parents=True, exist_ok=True)
    if world == 1:
        return [work(Ranks())]
    port = free_port()
    ranks = [PROCESSES.Process(target=_rank, args=(work, rank, world, port, folder, join)) for rank in range(world)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(90)
    late = [rank for rank, process in enumerate(ranks) if process.exitcode is None]
    for process in ranks:
        process.kill()
    assert not late, f"ranks {late} wait for ever"
    assert [process.exitcode for process in ranks] == [0] * world
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _rank(work: Callable, rank: int, world: int, port: int, folder: Path, join: bool) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    if not join:
        torch.save(work(rank), folder / f"{rank}.pt")
        return
    with start("cpu", threads=1) as ranks:
        torch.save(work(ranks), folder / f"{rank}.pt")


def lasting(loop: Loop) -> dict:
    """What all ranks must agree on, bit for bit."""
    return {
        "model": loop.model.state_dict(),
        "optimizer": loop.optimizer.state_dict(),
        "recent": list(loop.recent),
        "step": loop.step,
        "window": loop.take_window(),
        "loader": loop.loader.state_dict(),
    }


def assert_close(ours: dict, theirs: dict, tolerance: float = 1e-5) -> None:
    """Weights, codebooks and losses, to rounding."""
    assert ours["recent"] == pytest.approx(theirs["recent"], rel=tolerance)
    assert ours["window"] == pytest.approx(theirs["window"], rel=tolerance, abs=tolerance)
    assert ours["model"].keys() == theirs["model"].keys()
    for name, value in ours["model"].items():
        torch.testing.assert_close(
            value, theirs["model"][name], rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


def train_from_loader(options: list[str], steps: int, ranks: Ranks) -> dict:
    loop, revived = begin_loop(options, ranks), 0
    for _ in range(steps):
        run_steps(loop, 1)
        revived += loop.revived
    return {**lasting(loop), "revived": revived}


@pytest.mark.parametrize(
    ("world", "steps", "arch"), [(2, 20, "mlp"), (2, 20, "transformer"), (2, 20, "stgcn"), (4, 6, "mlp")]
)
def test_ranks_are_one_process_on_the_joined_batches(root, tmp_path, world, steps, arch):
    work = partial(train_from_loader, tiny_options(root, *PLAIN, SAME_STEPS, *ARCHS[arch], "train.epochs=8"), steps)
    (alone,) = on_ranks(1, work, tmp_path)
    together = on_ranks(world, work, tmp_path)
    assert bool(alone["model"]["quantizer.initialised"]) and alone["step"] == steps
    for rank in together[1:]:
        assert_same(rank, together[0])
    assert_close(together[0], alone)


def test_ranks_stay_the_same_with_all_that_is_drawn_at_random(root, tmp_path):
    """Augmentation, level dropout, dead codes revived, the usage loss: each rank has its own clips, and all have the same model."""
    together = on_ranks(
        2, partial(train_from_loader, tiny_options(root, "train.epochs=8", "model.rvq.ema_decay=0.9"), 12), tmp_path
    )
    assert together[0]["revived"] > 0
    assert_same(together[1], together[0])


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
    loop = begin_loop(options, ranks)
    for number, shares in enumerate(UNEVEN):
        clips = shares[ranks.rank] if ranks.world > 1 else shares[0] + shares[1]
        loop.train_step(pack([loop.cache.frames(i) for i in clips], clips, seed=number))
    return lasting(loop)


def test_a_rank_with_less_to_see_or_nothing_at_all_is_no_trouble(tmp_path):
    """A step whose clips on one rank, or on both, show no left hand; a step with no clip at all on one rank. The first two are of the warm-up."""
    clips = {f"clip{i}": moving_clip(30 + 4 * i, i) for i in range(10)}
    for i in range(6, 10):
        clips[f"clip{i}"][:, LEFT_HAND:RIGHT_HAND] = 0
    root = write_csl(tmp_path / "data", clips)
    for options in (PLAIN, (*PLAIN, "train.batch_size=1")):
        few = "model.rvq.codebook_size=8"  # with a code for each of the few chunks nothing but rounding is left for the next level
        work = partial(train_on_plan, tiny_options(root, *options, SAME_STEPS, few))
        (alone,) = on_ranks(1, work, tmp_path)
        together = on_ranks(2, work, tmp_path)
        assert_same(together[1], together[0])
        assert all(torch.isfinite(value).all() for value in together[0]["model"].values() if value.is_floating_point())
        assert_close(together[0], alone)


def validate_trained(options: list[str], state: Path, ranks: Ranks) -> dict:
    loop = begin_loop(options, ranks)
    loop.model.load_state_dict(torch.load(state, weights_only=True))
    found = validate(loop, health=True)
    return {
        "numbers": found.numbers,
        "samples": found.samples,
        "collapsed": found.collapsed,
        "picture": found.picture is not None,
    }


def test_validation_over_ranks_gives_the_numbers_of_one_process(root, tmp_path):
    """Over four, one of which has no clip."""
    options = tiny_options(root, SAME_STEPS, "train.sample_clips=2")
    loop = begin_loop(options)
    run_steps(loop, 5)
    torch.save(loop.model.state_dict(), tmp_path / "model.pt")
    work = partial(validate_trained, options, tmp_path / "model.pt")
    (alone,) = on_ranks(1, work, tmp_path)
    assert len(alone["numbers"]) > 100 and len(alone["samples"]) == 2
    for world in (2, 4):
        for rank, found in enumerate(on_ranks(world, work, tmp_path)):
            assert found["numbers"] == pytest.approx(alone["numbers"], rel=1e-5, abs=1e-7)
            assert found["samples"] == alone["samples"] and found["collapsed"] == alone["collapsed"]
            assert found["picture"] == (rank == 0)


def spoil(what: str, options: list[str], ranks: Ranks) -> str:
    """A number that is none, on rank 1 alone; what each rank says of it."""
    loop = begin_loop(options, ranks)
    run_steps(loop, 3)
    weight = loop.model.decoder.unpool.weight
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
    before = {name: value.clone() for name, value in loop.model.named_parameters()}
    loop.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    if ranks.rank == 1:
        hook = loop.model.decoder.unpool.weight.register_hook(lambda gradient: gradient * float("inf"))
    run_steps(loop, 1)
    unchanged = all(torch.equal(value, before[name]) for name, value in loop.model.named_parameters())
    if ranks.rank == 1:
        hook.remove()
    run_steps(loop, 1)
    return {"unchanged": unchanged, "scale": loop.scaler.get_scale(), "model": loop.model.state_dict()}


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

    real = Loop.train_step

    def train_step(loop, *args):
        if stop_at == (rank, loop.step):
            os.kill(os.getpid(), signal.SIGTERM)
        return real(loop, *args)

    Loop.train_step = train_step
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
