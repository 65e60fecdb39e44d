"""Checkpoints of a recogniser: what one says, and that one which is somebody's is taken or refused in a line."""

import copy

import pytest
import torch

from helpers import assert_same, begin_loop, run_steps
from recognition_data import PARTS, SOURCES, WORDS, labelled
from signstream.config import from_dict
from signstream.errors import UserError
from signstream.tasks.recognition.restore import restore
from signstream.tasks.recognition.validation import AVERAGE


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict:
    """Of a run that reads codes."""
    loop = begin_loop(SOURCES["codes"](tmp_path_factory.mktemp("saved")))
    run_steps(loop, 2)
    return copy.deepcopy(loop.state_dict())


def test_a_checkpoint_says_all_that_it_takes_to_recognise(saved):
    restored = restore(from_dict(saved["config"]), saved)
    assert restored.kept.glosses.names == tuple(sorted(WORDS)) and restored.kept.tokenizer == "one"
    assert restored.kept.parts == PARTS
    assert_same(restored.model.state_dict(), saved["model"])
    saved = {**saved, "task": {**saved["task"], "chosen": AVERAGE}}
    averaged = restore(from_dict(saved["config"]), saved).model.state_dict()
    assert_same(dict(averaged), saved["task"]["average"]["values"])


HOSTILE = {
    "no task": (lambda state: {**state, "task": None}, "nothing of a task"),
    "no glosses": (lambda state: with_task(state, glosses=None), "no list of glosses"),
    "a gloss that is no text": (lambda state: with_task(state, glosses=["A", 3]), "glosses are odd: 3"),
    "a gloss of two words": (lambda state: with_task(state, glosses=["A", "B C"]), "glosses are odd: 'B C'"),
    "a gloss of odd characters": (lambda state: with_task(state, glosses=["A\x1b"]), "glosses are odd"),
    "a gloss twice": (lambda state: with_task(state, glosses=["A", "A"]), "one stands twice"),
    "other glosses": (lambda state: with_task(state, glosses=["A", "B"]), "head.weight is torch.float32"),
    "glosses without end": (lambda state: with_task(state, glosses=[f"G{i}" for i in range(1 << 19)]), "far larger"),
    "a shape that is none": (lambda state: with_task(state, shape=[2, 2]), "no shape [P, Q, K, Z] of its codes"),
    "a shape below 1": (lambda state: with_task(state, shape=[2, 2, 0, 8]), "no shape"),
    "a huge shape": (lambda state: with_task(state, shape=[1 << 20, 64, 1 << 20, 64]), "far larger"),
    "parts that are none": (lambda state: with_task(state, parts=[3]), "of which parts its codes are"),
    "no choice": (lambda state: with_task(state, chosen="best"), "which of its weights"),
    "a choice without an average": (lambda state: with_task(state, chosen=AVERAGE, average=None), "which of its w"),
    "an average that is none": (lambda state: with_task(state, average=[1]), "its average is no table"),
    "an average of before its first step": (lambda state: with_average(state, steps=-10), "its average is no table"),
    "an average of others": (lambda state: with_average(state, values={}), "average.front.rows is in one and not"),
    "an average that is no number": (lambda state: with_average(state, fill=float("nan")), "are not finite"),
    "no model": (lambda state: {**state, "model": 3}, 'no "model" of tensors'),
}


def with_task(state: dict, **changed: object) -> dict:
    return {**state, "task": {**state["task"], **changed}}


def with_average(state: dict, values: dict | None = None, fill: float | None = None, steps: int = 3) -> dict:
    average = {**state["task"]["average"], "steps": steps}
    values = average["values"] if values is None else values
    if fill is not None:
        values = {
            name: torch.full_like(value, fill) if value.is_floating_point() else value for name, value in values.items()
        }
    return with_task(state, average={**average, "values": values})


@pytest.mark.parametrize("name", HOSTILE)
def test_a_checkpoint_that_is_no_recognisers_is_one_line(saved, name):
    spoil, says = HOSTILE[name]
    with pytest.raises(UserError) as error:
        restore(from_dict(saved["config"]), spoil(saved))
    assert says in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_run_goes_on_only_with_the_glosses_that_it_began_with(tmp_path):
    one = begin_loop(labelled(tmp_path / "a", {"a": "A B", "b": "B C"}, {"c": "A"}))
    other = begin_loop(labelled(tmp_path / "b", {"a": "A B", "b": "B D"}, {"c": "A"}))
    with pytest.raises(UserError, match="other glosses than the data's training split has now"):
        other.task.load_state_dict(one.task.state_dict())
    same_glosses = begin_loop(labelled(tmp_path / "c", {"a": "B A", "b": "B C"}, {"c": "A"}))
    with pytest.raises(UserError, match="a run goes on only on the same data"):
        same_glosses.loader.load_state_dict(one.loader.state_dict())
