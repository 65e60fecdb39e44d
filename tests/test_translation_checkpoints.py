"""Checkpoints of a translator: what one says, what begins as another's encoder, and that one which is of something else
is refused in a line."""

import copy
import json
from pathlib import Path

import pytest
import torch

from helpers import assert_same, begin_loop, run_steps
from processes import life
from recognition_data import labelled
from sentence_clips import eight
from sentences import said_in_one_line
from signstream.config import from_dict, load_config
from signstream.tasks.translation.restore import restore
from signstream.tasks.translation.task import TranslationTask
from signstream.training import checkpoint
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop
from signstream.training.run_folder import RunFolder

for package in ("sacrebleu", "transformers", "tokenizers"):
    pytest.importorskip(package)

FROZEN = "model.freeze=[embedding, positions, encoder]"

pytestmark = pytest.mark.usefixtures("one_thread")


class Source:
    """A run of two steps, in its folder."""

    def __init__(self, folder: Path, source: str = "keypoints", *more: str) -> None:
        self.options = eight(source, folder, FROZEN, *more)
        loop = begin_loop(self.options)
        run_steps(loop, 2)
        self.state = copy.deepcopy(loop.state_dict())
        self.folder = RunFolder.create(folder / "runs", "first").path
        checkpoint.save({**self.state, "generators": []}, RunFolder(self.folder).best)

    def encoder(self) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in self.state["model"].items() if name.startswith("encoder.")}


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Source:
    return Source(tmp_path_factory.mktemp("first"), "keypoints", "loss.ctc=0.1", "data.clean=none")


def test_a_checkpoint_says_all_that_it_takes_to_translate(first):
    restored = restore(from_dict(first.state["config"]), first.state)
    assert restored.kept.glosses.names == ("MORGEN", "NORD", "REGEN", "SONNE", "WIND")
    assert restored.kept.reads.source == "keypoints" and restored.kept.reads.shape == (133,)
    assert_same(dict(restored.model.state_dict()), dict(first.state["model"]))
    assert restored.model.text.frozen_digest() == first.state["task"]["frozen"]
    loop = begin_loop(first.options)
    loop.load_state_dict(copy.deepcopy(first.state))
    batch = loop.task.setup.batch(next(iter(loop.val_loader)), train=False)
    how = {"beams": 2, "max_new_tokens": 8}
    ours = restored.model.eval().generate(batch.clips.streams, batch.clips.lengths, **how)
    theirs = loop.task.model.eval().generate(batch.clips.streams, batch.clips.lengths, **how)
    assert torch.equal(ours.ids, theirs.ids)


# -- beginning as another's encoder


@pytest.mark.parametrize("named", ["folder", "file"])
def test_a_run_begins_as_the_encoder_of_another(first, named):
    """Its constants with it; all else as it would be."""
    place = first.folder if named == "folder" else RunFolder(first.folder).best
    plain = begin_loop(first.options).task.model.state_dict()
    begun = begin_loop([*first.options, f"model.init_from={place}"]).task.model.state_dict()
    taken = first.encoder()
    assert_same({name: begun[name] for name in taken}, taken)
    assert not torch.equal(begun["encoder.front.mean"], torch.zeros(133, 2))
    assert_same(
        {name: tensor for name, tensor in begun.items() if name not in taken},
        {name: tensor for name, tensor in plain.items() if name not in taken},
    )
    assert any(not torch.equal(plain[name], tensor) for name, tensor in taken.items())


def test_what_is_no_such_encoder_is_one_line(first, tmp_path):
    def begun(place: Path, *more: str):
        return lambda: begin_loop([*first.options, f"model.init_from={place}", *more])

    wide = ("model.encoder.width=48", "model.encoder.depth=2")
    said_in_one_line(
        begun(first.folder, wide[0]), r"model.init_from .*best\.pt: the checkpoint is not of its config: enc"
    )
    said_in_one_line(
        begun(first.folder, wide[1]), r"model.init_from .*encoder\.fusion.* is in one and not in the other"
    )
    said_in_one_line(begun(first.folder, "data.points=75"), r"model.init_from .*: its encoder reads something else")
    said_in_one_line(begun(tmp_path / "none"), r"there is no checkpoint .*none")
    (tmp_path / "text.pt").write_text("no checkpoint\n")
    said_in_one_line(begun(tmp_path / "text.pt"), r"text\.pt is no ")
    recogniser = begin_loop(labelled(tmp_path / "r", {"a": "A B"}, {"b": "A"}))
    checkpoint.save({**recogniser.state_dict(), "generators": []}, tmp_path / "recogniser.pt")
    said_in_one_line(begun(tmp_path / "recogniser.pt"), r"recogniser\.pt: the checkpoint has no encoder of signing")
    spoilt = copy.deepcopy(first.state)
    spoilt["model"]["encoder.fusion.norm.weight"][0] = torch.nan
    for name, state, says in (
        ("nan", spoilt, "not finite"),
        ("none", {**first.state, "task": None}, "no encoder of signing"),
        ("bare", {**first.state, "model": {}}, "no encoder of signing"),
    ):
        checkpoint.save({**state, "generators": []}, tmp_path / f"{name}.pt")
        said_in_one_line(begun(tmp_path / f"{name}.pt"), says)


def test_glosses_of_another_number_are_no_encoder_of_these(first, tmp_path):
    """Five of either, but what is the second?"""
    source = Source(tmp_path / "one", "glosses")
    options = eight("glosses", tmp_path / "two", FROZEN, f"model.init_from={source.folder}")
    begin_loop(options)
    path = tmp_path / "two" / "data" / "annotations.json"
    path.write_text(path.read_text(encoding="utf-8").replace("WIND", "FROST"), encoding="utf-8")
    said_in_one_line(lambda: begin_loop(options), "its encoder reads something else")
    said_in_one_line(lambda: begin_loop([*first.options, f"model.init_from={source.folder}"]), "reads something else")


def test_a_run_that_began_so_goes_on_without_the_other(first, tmp_path):
    """What a start with --checkpoint does with its state."""
    place = tmp_path / "source.pt"
    place.write_bytes(RunFolder(first.folder).best.read_bytes())
    config = load_config(None, [*first.options, f"model.init_from={place}"])
    begun = begin_loop([*first.options, f"model.init_from={place}"])
    run_steps(begun, 1)
    state = copy.deepcopy(begun.state_dict())
    place.unlink()
    TranslationTask.check_state(config, state)
    loop = Loop(TranslationTask.open(config, Ranks()), config, Ranks(), clips=8)
    loop.load_state_dict(state)
    assert run_steps(loop, 2) == run_steps(begun, 2)
    assert_same(dict(loop.task.model.state_dict()), dict(begun.task.model.state_dict()))


@pytest.mark.slow
def test_the_program_goes_on_without_the_other(first, tmp_path):
    place, runs = tmp_path / "source.pt", tmp_path / "runs"
    place.write_bytes(RunFolder(first.folder).best.read_bytes())
    few = [option for option in first.options if not option.startswith(("train.epochs", "save_path"))]
    made = [*few, f"save_path={runs}", f"model.init_from={place}", "--checkpoint", "auto"]
    assert life([*made, "train.epochs=1"], log=tmp_path / "log") == 0, (tmp_path / "log").read_text()
    place.unlink()
    assert life([*made, "train.epochs=2"], log=tmp_path / "log") == 0, (tmp_path / "log").read_text()
    (run,) = (runs / "default").iterdir()
    assert checkpoint.load(run / "last.pt")["epoch"] == 2
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["split"] == "val"] == [1, 2]


# -- of something else


def with_task(state: dict, **changed: object) -> dict:
    return {**state, "task": {**state["task"], **changed}}


def with_text(state: dict, **changed: object) -> dict:
    return with_task(state, text={**state["task"]["text"], **changed})


def other_tokenizer(state: dict) -> dict:
    """A token of it is called something else."""
    kept = json.loads(state["task"]["text"]["tokenizer"])
    kept["model"]["vocab"] = {name: i for i, name in enumerate(kept["model"]["vocab"]) if i < 20}
    kept["model"]["merges"] = []
    return with_text(state, tokenizer=json.dumps(kept))


def with_sizes(state: dict, **changed: object) -> dict:
    return with_text(state, sizes={**state["task"]["text"]["sizes"], **changed})


HOSTILE = {
    "no task": (lambda s: {**s, "task": None}, "nothing of a task"),
    "no text": (lambda s: with_task(s, text=None), "which text model"),
    "no digest": (lambda s: with_task(s, frozen=3), "which text model"),
    "another digest": (lambda s: with_task(s, frozen="0" * 64), "frozen weights of the tiny model are not those"),
    "another seed": (lambda s: with_text(s, seed=7), "frozen weights of the tiny model are not those"),
    "other sizes": (lambda s: with_sizes(s, width=48), "frozen weights of the tiny model are not those"),
    "more layers": (lambda s: with_sizes(s, layers=2), "frozen weights of the tiny model are not those"),
    "a huge one": (lambda s: with_sizes(s, width=99_998), "no tiny text model"),
    "another tokenizer": (other_tokenizer, "frozen weights of the tiny model are not those"),
    "a tokenizer that is none": (lambda s: with_text(s, tokenizer="{"), "not one of ours"),
    "another language": (lambda s: with_text(s, target="fr_XX"), "no language"),
    "a published one": (
        lambda s: with_task(
            s, text={"kind": "published", "name": "nobody/has", "source": "a", "target": "b", "scale_inputs": False}
        ),
        "not whole on this machine",
    ),
    "another source": (
        lambda s: with_task(s, reads={**s["task"]["reads"], "source": "glosses"}),
        "reads something else",
    ),
    "features too": (lambda s: with_task(s, reads={**s["task"]["reads"], "visual": 5}), "it reads something else"),
    "other points": (lambda s: with_task(s, reads={**s["task"]["reads"], "shape": [75]}), "encoder.front.mean is"),
    "points without end": (lambda s: with_task(s, reads={**s["task"]["reads"], "shape": [1 << 24]}), "far larger"),
    "no glosses": (lambda s: with_task(s, glosses=None), "no list of glosses"),
    "other glosses": (lambda s: with_task(s, glosses=["A"]), "glosses.weight is torch.float32"),
    "no model": (lambda s: {**s, "model": 3}, 'no "model" of tensors'),
    "a weight too few": (lambda s: {**s, "model": dict(list(s["model"].items())[1:])}, "in one and not in the other"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_checkpoint_that_is_no_translators_is_one_line(first, name):
    spoil, says = HOSTILE[name]
    said_in_one_line(lambda: restore(from_dict(first.state["config"]), spoil(first.state)), says)


def test_a_run_goes_on_only_with_the_sentences_that_it_began_with(first, tmp_path):
    """Of which its tokenizer was made, and its glosses."""
    options = eight("keypoints", tmp_path, FROZEN, "loss.ctc=0.1", "data.clean=none")
    begin_loop(options).load_state_dict(copy.deepcopy(first.state))
    path = tmp_path / "data" / "annotations.json"
    notes = path.read_text(encoding="utf-8")
    for before, after, says in (
        ("Zuerst", "Vorerst", "other sentences than the data's training split has now"),
        ("WIND", "FROST", "other sentences than the data's training split has now"),
    ):
        path.write_text(notes.replace(before, after), encoding="utf-8")
        other = begin_loop(options)
        said_in_one_line(lambda other=other: other.task.load_state_dict(first.state["task"]), says)
    path.write_text(notes, encoding="utf-8")
    path.write_text(notes.replace("clip7", "clip9"), encoding="utf-8")
    fewer = begin_loop(options)
    said_in_one_line(lambda: fewer.load_state_dict(copy.deepcopy(first.state)), "a run goes on only on the same data")
