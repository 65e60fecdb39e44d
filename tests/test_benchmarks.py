"""benchmarks/: every program there can be imported, and says what it does."""

import importlib
import sys
from pathlib import Path

import pytest

NAMES = sorted(file.stem for file in (Path(__file__).parents[1] / "benchmarks").glob("*.py") if file.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_help(name, monkeypatch, capsys):
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.__doc__
    if not hasattr(module, "main"):  # what several of them use
        return
    assert f"python -m benchmarks.{name}" in module.__doc__
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code in (0, None)
    assert "usage:" in capsys.readouterr().out
