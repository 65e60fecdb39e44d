"""Run folders, checkpoints that survive any stop, and the generators' states in them.

Started as a program, this file is killed while it saves (`save_and_be_killed`).
"""

import json
import os
import pickletools
import random
import re
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from signstream.config import Base, Config, load_config
from signstream.errors import UserError
from signstream.training import environment as environment_module
from signstream.training.checkpoint import check_same, digest, load, save
from signstream.training.environment import environment
from signstream.training.run_folder import RUN_NAME, RunFolder, find, newest_of, newest_whole
from signstream.training.seed import generator_states, restore_generators, seed_everything

ROOT = Path(__file__).parents[1]
KILLS = 20
READ_BY_TORCH_2_1 = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch FloatStorage",
    "torch LongStorage",
    "torch ByteStorage",
}


def state_of(step: int, size: int = 100) -> dict:
    weights = OrderedDict(weight=torch.full((size,), float(step)))
    return {"step": step, "model": weights, "best": 0.5, "name": "a", "none": None, "list": [1, (2, True)]}


def folder_of(path: Path, **steps: int) -> RunFolder:
    """A run folder with the checkpoints of these names at these steps."""
    path.mkdir(parents=True)
    for name, step in steps.items():
        save(state_of(step), path / f"{name}.pt")
    return RunFolder(path)


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def save_and_be_killed(folder: RunFolder) -> int:
    """Forks a process that does nothing but save and kills it, KILLS times; how many kills came in the middle of
    a save."""
    rng, leftovers = random.Random(0), 0
    for _ in range(KILLS):
        before = load(folder.last)["step"]
        child = os.fork()
        if child == 0:
            for step in range(before + 1, before + 100_000):
                save(state_of(step, 100_000), folder.last)
            os._exit(1)
        time.sleep(rng.uniform(0.0, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        after = load(folder.last)
        assert after["step"] >= before
        assert (after["model"]["weight"] == after["step"]).all()
        leftovers += len(list(folder.path.glob(".*.part")))
        folder.sweep()
    return leftovers


def test_killed_at_any_moment_the_last_checkpoint_is_whole(tmp_path):
    folder = folder_of(tmp_path / "run", last=0)
    done = subprocess.run(
        [sys.executable, __file__, str(folder.path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, "no kill came in the middle of a save, so nothing was tested"
    assert load(folder.last)["step"] > 0
    assert [f.name for f in folder.path.iterdir()] == ["last.pt"]


def test_what_is_saved_is_read_back(tmp_path):
    save(state_of(7), tmp_path / "last.pt")
    state = load(tmp_path / "last.pt")
    assert state.pop("format") == 2
    assert torch.equal(state["model"].pop("weight"), torch.full((100,), 7.0))
    assert state == {"step": 7, "model": {}, "best": 0.5, "name": "a", "none": None, "list": [1, (2, True)]}


def test_what_could_not_be_read_back_is_not_saved(tmp_path):
    for odd in (np.float64(1.0), {"a": [np.zeros(2)]}, {1, 2}, Path("a"), torch.float32):
        with pytest.raises(AssertionError, match=r"state\['odd'\]"):
            save({"step": 1, "odd": odd}, tmp_path / "last.pt")
    with pytest.raises(AssertionError, match="step"):
        save({"odd": 1}, tmp_path / "last.pt")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_leaves_the_old_checkpoint_and_one_line(tmp_path):
    """A limit on the size of files stands in for the disk."""
    save(state_of(1), tmp_path / "last.pt")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        with pytest.raises(UserError, match="cannot write the checkpoint") as caught:
            save(state_of(2, 1_000_000), tmp_path / "last.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert str(caught.value).endswith("free") and "File too large: it needs 4,000,000 bytes" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert load(tmp_path / "last.pt")["step"] == 1
    assert [f.name for f in tmp_path.iterdir()] == ["last.pt"]


def test_a_checkpoint_cut_anywhere_or_with_one_byte_changed_is_refused_in_a_line(tmp_path):
    path = tmp_path / "last.pt"
    save(state_of(1), path)
    whole = path.read_bytes()
    spoilt = [whole[: len(whole) * i // 20] for i in range(20)]
    place = whole.index(torch.full((100,), 1.0).numpy().tobytes()) + 5
    spoilt.append(whole[:place] + b"\x01" + whole[place + 1 :])
    for data in spoilt:
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is no whole checkpoint") as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_other_files_are_refused_in_a_line(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"format": 1, "step": 1, "evil": Evil()}, tmp_path / "evil.pt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    torch.save({"format": 3, "step": 1}, tmp_path / "newer.pt")
    torch.save({"format": 1}, tmp_path / "stepless.pt")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    (tmp_path / "text.pt").write_text("hello")
    told = {
        "evil.pt": "is no checkpoint: UnpicklingError",
        "weights.pt": 'no "format"',
        "newer.pt": "has checkpoint format 3, this version reads 2",
        "stepless.pt": 'no "step"',
        "arrays.npz": "is no checkpoint",
        "text.pt": "another kind of file",
        "absent.pt": "there is no checkpoint",
    }
    for name, message in told.items():
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_the_last_is_taken_if_whole_else_the_one_of_most_steps(tmp_path, capsys):
    folder = folder_of(tmp_path / "run", last=30, best=15, epoch_0001=10, epoch_0002=20)
    assert newest_whole(folder.path) == folder.last
    assert capsys.readouterr().out == ""
    cut(folder.last)
    assert newest_whole(folder.path) == folder.epoch(2)
    said = capsys.readouterr().out
    assert (
        "last.pt is no whole checkpoint" in said and "taking epoch_0002.pt of step 20" in said and said.count("\n") == 1
    )
    cut(folder.epoch(2))
    assert newest_whole(folder.path) == folder.best
    for path in folder.path.glob("*.pt"):
        cut(path, 0.9)
    assert newest_whole(folder.path) is None
    assert newest_whole(tmp_path / "absent") is None


def test_auto_is_the_newest_run_of_the_experiment_that_can_go_on(tmp_path):
    assert newest_of(tmp_path / "a") is None
    older = folder_of(tmp_path / "a" / "2026-01-02_03-04-05", last=5)
    folder_of(tmp_path / "a" / "2026-01-02_03-04-06")
    broken = folder_of(tmp_path / "a" / "2026-01-02_03-04-07", last=9)
    cut(broken.last)
    folder_of(tmp_path / "a" / "zebra", last=50)
    folder_of(tmp_path / "a" / "2026-01-02_03-04-07_old", last=50)  # a copy that somebody made
    folder_of(tmp_path / "b" / "2027-01-02_03-04-05", last=50)
    assert newest_of(tmp_path / "a") == older.last
    assert find(str(older.path)) == older.last
    assert find(str(older.last)) == older.last
    assert find(tmp_path / "a") == older.last, "an experiment's folder: its newest run"
    with pytest.raises(ValueError, match="holds no whole checkpoint"):
        find(str(broken.path))
    with pytest.raises(ValueError, match="there is no checkpoint"):
        find("nowhere.pt")


def test_a_task_without_data_or_a_model_is_held_against_its_checkpoint_too():
    check_same(Base(), Base(), free=(), why="so")


def test_two_runs_of_one_second_have_two_folders(tmp_path):
    first, second = (RunFolder.create(tmp_path, "a").path for _ in range(2))
    assert first.name < second.name
    assert all(RUN_NAME.fullmatch(path.name) and path.parent == tmp_path / "a" for path in (first, second))


def test_only_the_newest_are_kept_beside_last_and_best(tmp_path):
    folder = folder_of(tmp_path / "run", last=1, best=1, epoch_0005=1, epoch_0010=1, epoch_9995=1, epoch_10000=1)
    folder.prune(2)
    assert {f.name for f in folder.path.iterdir()} == {"last.pt", "best.pt", "epoch_9995.pt", "epoch_10000.pt"}
    folder.prune(3)
    assert len(list(folder.path.iterdir())) == 4


def test_a_run_folder_says_what_it_was_made_with(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    facts = environment(torch.device("cpu"), world=2, seed=42)
    folder.describe(Config(), facts)
    assert load_config(folder.path / "config.yaml") == Config()
    written = json.loads((folder.path / "environment.json").read_text())
    assert written == facts
    assert (
        written["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
        and written["torch"] == torch.__version__
    )
    assert written["world"] == 2 and written["seed"] == 42
    assert written["command"].startswith("python ")
    text = (folder.path / "environment.json").read_text()
    assert os.uname().nodename not in text and written["device"]
    with folder.open_log() as log:
        log.write("one\n")
        assert (folder.path / "train.log").read_text() == "one\n"
    with folder.open_log() as log:
        log.write("two\n")
    assert (folder.path / "train.log").read_text() == "one\ntwo\n"


def test_the_commit_and_whether_it_was_changed_are_known_in_a_checkout_and_nowhere_else(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=tmp_path,
            env=outside,
            check=True,
            capture_output=True,
        )

    monkeypatch.setattr(environment_module, "ROOT", tmp_path)
    assert environment(torch.device("cpu"), 1, 0)["git"] is None
    git("init")
    (tmp_path / "a").write_text("a")
    git("add", "a")
    git("commit", "-m", "a")
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook
    clean = environment(torch.device("cpu"), 1, 0)["git"]
    assert re.fullmatch("[0-9a-f]{40}", clean["commit"]) and clean["dirty"] is False
    (tmp_path / "a").write_text("b")
    assert environment(torch.device("cpu"), 1, 0)["git"] == {**clean, "dirty": True}
    (tmp_path / "inside").mkdir()
    monkeypatch.setattr(environment_module, "ROOT", tmp_path / "inside")
    assert environment(torch.device("cpu"), 1, 0)["git"] is None, "somebody else's checkout says nothing of ours"


def test_a_digest_names_the_weights_whatever_their_order():
    weights = {
        "a": torch.arange(6.0).view(2, 3),
        "b": torch.tensor(3),
        "c": torch.zeros(2, dtype=torch.bfloat16),
        "d": torch.zeros(0, 4),
    }
    name = digest(weights)
    assert re.fullmatch("[0-9a-f]{16}", name)
    assert digest(dict(reversed(weights.items()))) == name
    assert digest({**weights, "a": weights["a"].T.contiguous().T}) == name
    others = [
        {**weights, "a": weights["a"].view(3, 2)},
        {**weights, "a": weights["a"].double()},
        {**weights, "a": weights["a"] + 1e-6},
        {**weights, "c": weights["c"].half()},
        {k: weights[k] for k in "abc"},
        {("e" if k == "d" else k): v for k, v in weights.items()},
    ]
    assert len({name, *(digest(other) for other in others)}) == 1 + len(others)


def draw() -> tuple:
    return (
        torch.rand(3).tolist(),
        torch.randn(3).tolist(),
        np.random.rand(3).tolist(),
        np.random.randn(),
        random.random(),
        random.gauss(0, 1),
    )


@pytest.fixture
def generators():
    before = generator_states()
    yield
    restore_generators(before)


def test_a_seed_fixes_what_is_drawn_and_ranks_draw_different_numbers(generators):
    drawn = []
    for seed, rank in ((1, 0), (1, 0), (1, 1), (2, 0)):
        seed_everything(seed, rank)
        drawn.append(draw())
    assert drawn[0] == drawn[1]
    for numbers in zip(*drawn[1:]):
        assert len({str(n) for n in numbers}) == 3


def test_generators_go_on_from_a_checkpoint_as_if_never_stopped(tmp_path, generators):
    seed_everything(3)
    draw()  # leaves half a pair of normal numbers in numpy and random
    save({"step": 1, "generators": generator_states()}, tmp_path / "last.pt")
    went_on = draw()
    seed_everything(4)
    restore_generators(load(tmp_path / "last.pt")["generators"])
    assert draw() == went_on


def test_torch_2_1_reads_what_is_saved(tmp_path):
    """Its weights_only=True knows these names, and no others that a checkpoint of ours would use."""
    save({**state_of(1), "generators": generator_states(), "numbers": torch.arange(3)}, tmp_path / "last.pt")
    with zipfile.ZipFile(tmp_path / "last.pt") as archive:
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    assert {argument for code, argument, _ in pickletools.genops(pickled) if code.name == "GLOBAL"} == READ_BY_TORCH_2_1


if __name__ == "__main__":
    print(save_and_be_killed(RunFolder(Path(sys.argv[1]))))
