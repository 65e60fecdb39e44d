"""docs/extending.md as a user would follow it, and that no checkpoint runs a user's file unasked."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import signstream
from data_sets import whole_clip
from helpers import TINY_RUN
from signstream import registry
from signstream.config import from_dict, load_config, to_dict
from signstream.inference import decode_tokens, evaluate, export_tokens, stream, visualizer
from signstream.training import checkpoint, train_rvq

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
TINY = [option for option in TINY_RUN if not option.startswith("train.warmup")]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A folder in which the page's file and commands were followed: two steps of training, tokens, poses."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "my_signs.py").write_text(re.search(r"```python\n(.*?)```", PAGE, re.S)[1], encoding="utf-8")
    for split, clips in {"train": range(8), "val": range(8, 11)}.items():
        (folder / "texts" / split).mkdir(parents=True)
        for seed in clips:
            np.savetxt(folder / "texts" / split / f"clip{seed}.txt", whole_clip(20, seed).reshape(20, -1), fmt="%g")
    commands = [shlex.split(line)[1:] for line in re.search(r"```bash\n(.*?)```", PAGE, re.S)[1].splitlines()]
    assert [command[1].rsplit(".")[-1] for command in commands] == ["train_rvq", "export_tokens", "decode_tokens"]
    small = [*TINY, "train.epochs=2", "train.log_every=1", "train.warmup_steps=1"]
    for command in commands:
        done = run([*command, *(small if "train_rvq" in command[1] else ["train.device=cpu"])], folder)
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr}"
    return folder


@pytest.fixture
def fresh(user, monkeypatch):
    """The folder, from a process that does not know the file yet and will not know it afterwards."""
    monkeypatch.setattr(registry, "TABLES", {kind: dict(table) for kind, table in registry.TABLES.items()})
    monkeypatch.chdir(user)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    yield user
    sys.modules.pop("my_signs", None)


def test_the_page_trains_and_writes_tokens_and_poses(user):
    (folder,) = (user / "checkpoints" / "default").iterdir()
    state = checkpoint.load(folder / "last.pt")
    assert state["step"] == 2 and state["config"]["imports"] == ["my_signs"]
    assert {"encoder.inputs.0.weight", "decoder.up.weight"} <= set(state["model"])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {line["split"] for line in lines} == {"train", "val"} and all(line["fingertips"] > 0 for line in lines)
    tokens = [json.loads(line) for line in (user / "tokens.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["video_name"] for line in tokens] == ["clip10", "clip8", "clip9"]
    assert np.load(user / "decoded" / "clip8.npy").shape == (20, 133, 3)


PROGRAMS = {
    "train_rvq": (train_rvq.main, ["--checkpoint", "checkpoints/default"]),
    "export_tokens": (export_tokens.main, ["--checkpoint", "checkpoints/default", "--out", "again.jsonl"]),
    "decode_tokens": (
        decode_tokens.main,
        ["--checkpoint", "checkpoints/default", "--tokens", "tokens.jsonl", "--out", "again"],
    ),
    "evaluate": (evaluate.main, ["--checkpoint", "checkpoints/default", "--split", "val", "--out", "report"]),
    "stream": (stream.main, ["--checkpoint", "checkpoints/default", "--input", "decoded/clip8.npy"]),
    "visualizer": (visualizer.main, ["--checkpoint", "checkpoints/default", "--out", "clip.gif"]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_without_the_import_a_program_says_in_one_line_which_is_missing(fresh, name):
    main, arguments = PROGRAMS[name]
    if name == "train_rvq":
        arguments = ["--checkpoint", str(next((fresh / "checkpoints" / "default").iterdir()))]
    with pytest.raises(ValueError) as error:
        main(arguments)
    assert str(error.value) == (
        "model.arch names 'flat', made with --import my_signs: give that (in Python, import it first); "
        "nothing is imported only because a checkpoint names it"
    )
    assert "my_signs" not in sys.modules


@pytest.mark.parametrize("name", ["train_rvq", "evaluate", "stream"])
def test_with_the_import_it_runs(fresh, name, capsys, tmp_path):
    main, arguments = PROGRAMS[name]
    if name == "train_rvq":
        folder = shutil.copytree(next((fresh / "checkpoints" / "default").iterdir()), tmp_path / "run")
        arguments = ["--checkpoint", str(folder), "train.epochs=3"]
    assert not main(["--import", "my_signs", *arguments, "train.device=cpu"])
    assert "Traceback" not in capsys.readouterr().err


def test_load_wants_the_module_imported_and_not_the_layout_or_the_loss(fresh):
    with pytest.raises(ValueError, match="in Python, import it first"):
        signstream.load("checkpoints/default", "cpu")
    registry.import_module("my_signs")
    del registry.TABLES["layout"]["folder_of_text"], registry.TABLES["loss"]["fingertips"]
    tokenizer = signstream.load("checkpoints/default", "cpu")
    assert tokenizer.encode(whole_clip(20, 8)).codes.shape == (2, 5, 3)


def test_a_strangers_checkpoint_runs_nothing(fresh, tmp_path):
    """Modules that its config lists, and a layout that looks like one, stay where they are."""
    (fresh / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (folder,) = (fresh / "checkpoints" / "default").iterdir()
    state = checkpoint.load(folder / "best.pt")
    state["config"]["imports"] = ["evil"]
    for layout, arch in (("csl_daily", "flat"), ("evil:Layout", "transformer"), ("csl_daily", "evil:build")):
        state["config"]["data"]["layout"], state["config"]["model"]["arch"] = layout, arch
        path = tmp_path / "best.pt"
        checkpoint.save({key: value for key, value in state.items() if key != "format"}, path)
        for name in ("export_tokens", "evaluate", "train_rvq"):
            main, arguments = PROGRAMS[name]
            arguments = [str(path) if argument.startswith("checkpoints") else argument for argument in arguments]
            with pytest.raises(ValueError, match="--import evil"):
                main(arguments)
    assert not (tmp_path / "ran").exists() and "evil" not in sys.modules


def test_the_checkpoints_imports_are_kept_and_the_commands_added(fresh):
    (fresh / "other.py").write_text("")
    saved = from_dict({"imports": ["my_signs"]})
    assert load_config(None, ["imports=[other]"], saved).imports == ("my_signs", "other")
    assert "other" in sys.modules and "my_signs" not in sys.modules
    (fresh / "mine.yaml").write_text("imports: [my_signs]\nmodel: {arch: flat}")
    assert load_config(fresh / "mine.yaml", ["imports=[other]"]).imports == ("my_signs", "other")
    assert "my_signs" in sys.modules and to_dict(from_dict(to_dict(saved)))["imports"] == ["my_signs"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "there is no module broken in the current folder"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("\n1 / 0", "broken.py, line 2"),
        ("def", "SyntaxError"),
        ("import signstream\nsignstream.register('arch', 'mlp')(dict)", "the arch 'mlp' is the program's own"),
        ("import signstream\nsignstream.register('loss', 'rec')(dict)", "the loss 'rec' is the program's own"),
        (
            "import signstream\nsignstream.register('model', 'm')(dict)",
            "'model' is no kind of class: layout, arch, loss, task are",
        ),
        ("import signstream\nsignstream.register('arch', 'a b')(dict)", "'a b' is no name"),
        (
            "import signstream\nfor kind in (dict, list):\n  signstream.register('arch', 'm')(kind)",
            "the arch 'm' is builtins.dict already",
        ),
    ],
)
def test_a_module_that_does_not_do_is_one_line(fresh, tmp_path, monkeypatch, text, says):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "broken.py").write_text(text)
    with pytest.raises(ValueError) as error:
        load_config(None, ["imports=[broken]"])
    sys.modules.pop("broken", None)
    assert (
        str(error.value).startswith("--import broken: ") and says in str(error.value) and "\n" not in str(error.value)
    )


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("imports=[my_signs.py]", "imports holds 'my_signs.py': the name of a module"),
        ("imports=my_signs", "a list of text is expected"),
        ("imports=['a b']", "imports holds 'a b'"),
        ("model.arch=flatt", "transformer, mlp, stgcn or a name that a module of --import registers"),
        ("loss.terms={fingertip: 1}", "loss.terms names 'fingertip'"),
        ("data.layout=csl", "data.layout is 'csl'"),
    ],
)
def test_a_name_that_is_not_known_is_one_line(override, says):
    with pytest.raises(ValueError) as error:
        load_config(None, [override])
    assert says in str(error.value) and "\n" not in str(error.value)


def test_the_pages_task_has_its_config(fresh, tmp_path):
    """The class has no methods yet, so it cannot be opened; its config works as any other."""
    page = next(block for block in PAGE.split("```python\n") if block.startswith("# my_task.py"))
    (fresh / "my_task.py").write_text(page.split("```")[0], encoding="utf-8")
    (fresh / "glosses.yaml").write_text("task: glosses\nimports: [my_task]\nmodel: {width: 8}", encoding="utf-8")
    done = run(["-m", "signstream.config", "glosses.yaml", "model.depth=3", "train.lr=0.5"], fresh)
    assert done.returncode == 0, done.stderr
    assert "task: glosses" in done.stdout and "model: {width: 8, depth: 3}" in done.stdout
    wrong = {
        "model.width=7": "model.width is 7: an even number",
        "model.arch=mlp": "task rvq has it, and this config's",
    }
    for option, says in wrong.items():
        done = run(["-m", "signstream.config", "glosses.yaml", option], fresh)
        assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


def test_a_users_loss_is_the_same_on_two_halves_of_a_batch(fresh):
    from signstream.tasks.rvq.losses import Losses, terms_of
    from test_losses import BATCH, BODY, PARTS, batch_of, loss_of, model

    config = load_config(None, ["imports=[my_signs]", "loss.terms={fingertips: 0.5}"])
    net, losses = model(), Losses(config, PARTS, terms_of(config, BODY))
    whole, parts = (
        loss_of(net, BATCH, losses),
        [loss_of(net, batch_of(seeds), losses) for seeds in ([0, 1], [2, 3], [])],
    )
    totals, counts = (sum(values)[4] for values in zip(*parts))
    assert torch.equal(counts, whole[1][4]) and counts.bool().tolist() == [False, True, True, False, False]
    torch.testing.assert_close(totals, whole[0][4], rtol=1e-5, atol=1e-4)
