"""Recognition as a task: eight clips by heart from whatever is read, what is left out and what counts, two sets of
weights, the best checkpoint on the test split."""

import copy
import json
from pathlib import Path

import pytest
import torch

from clips import moving_clip
from data_sets import note, write_csl
from helpers import assert_same, begin_loop, case_options, run_steps
from phoenix_data import save_table
from processes import life
from recognition_data import HAS_LEVEL, SOURCES, VECTORS, keypoints, labelled
from signstream.errors import UserError
from signstream.models.recognition_fronts import stretched
from signstream.tasks.recognition.validation import AVERAGE, LIVE
from signstream.training.loop import Loop

# -- eight clips by heart


@pytest.mark.parametrize("source", SOURCES)
def test_eight_clips_are_learnt_to_the_last_word(source, tmp_path):
    loop = begin_loop(SOURCES[source](tmp_path))
    before = loop.validate(health=True).numbers
    run_steps(loop, loop.total_steps)
    findings = loop.validate(health=True)
    assert findings.numbers["wer"] == 0 < before["wer"]
    assert {"live/wer", "average/wer", "substitutions", "deletions", "insertions"} <= findings.numbers.keys()
    assert findings.score == 0 and findings.lines[0].startswith("validation WER 0.0 %")


def test_fresh_rows_do_not_begin_as_the_vectors(tmp_path):
    rows = begin_loop(SOURCES["codes"](tmp_path / "a")).task.model.front.rows
    assert torch.equal(rows, stretched(VECTORS * HAS_LEVEL))
    drawn = begin_loop(SOURCES["codes as drawn"](tmp_path / "b")).task.model.front.rows
    assert drawn.shape == rows.shape and not torch.equal(drawn[0, 0], rows[0, 0])


# -- what is left out, and what counts


def left_out(loop: Loop) -> dict[str, str]:
    return {line["name"]: line["reason"] for line in loop.task.skipped()}


def test_a_clip_that_no_alignment_fits_is_left_out_and_listed(tmp_path):
    """40 frames are five steps of eight: they hold five glosses, four if two neighbours are the same."""
    train = {"fits": "A B C D E", "long": "A B C D E F", "twice": "A A B C D", "just": "A A B C", "mute": " "}
    loop = begin_loop(labelled(tmp_path, train, {"val_long": "A B C D A B", "val_mute": ""}))
    needed = "cannot be aligned: 40 steps give 5, {} are needed"
    unlabelled = {"mute": "no gloss", "val_mute": "no gloss"}
    assert left_out(loop) == {**unlabelled, "long": needed.format(6), "twice": needed.format(6)}
    assert len(loop.loader.clips) == 2
    numbers = loop.validate(health=True).numbers
    assert numbers["ctc"] == 0, "no target to hold against"
    assert numbers["deletions"] + numbers["substitutions"] > 0, "but its words count"
    assert all(loss < 100 for loss in run_steps(loop, 3))


def test_a_split_without_a_clip_that_fits_is_one_line(tmp_path):
    with pytest.raises(UserError, match="the split 'train' has no clip that can be used") as error:
        begin_loop(labelled(tmp_path, {"a": "A B C", "b": ""}, {"c": "A"}, frames=8))
    assert "\n" not in str(error.value)


def test_a_gloss_that_training_has_not_stays_in_the_reference(tmp_path):
    loop = begin_loop(labelled(tmp_path, {"a": "A B", "b": "B C"}, {"c": "A X B", "d": "C"}))
    findings = loop.validate(health=True)
    batch = loop.task.setup.batch(next(iter(loop.val_loader)), train=False)
    assert batch.references == (("A", "X", "B"), ("C",)) and batch.units == (0, 1)
    assert loop.task.describe()[1] == "val: 1 of 4 words are not in training, so they will count as errors"
    assert "A X B" in findings.texts["glosses"]
    assert loop.task.setup.glosses.names == ("A", "B", "C")


def test_training_is_never_warped_below_what_its_words_need(tmp_path):
    """The clip has just as many steps as it needs, so a warp that makes it shorter would end in an infinite loss."""
    made = labelled(tmp_path, {"just": "A B C D E"}, {"c": "A"}, frames=33)
    loop = begin_loop([*made, "data.augment.time_warp=true", "data.augment.time_warp_range=0.9", "train.epochs=60"])
    losses = run_steps(loop, 60)
    assert len(set(losses)) == 60 and max(losses) < 100


def test_a_dictionary_says_which_glosses_there_are(tmp_path):
    made = labelled(tmp_path, {"a": "A B", "b": "B C"}, {"c": "A"})
    save_table(tmp_path / "gloss_dict.npy", {"A": [1, 3], "B": [2, 4], "UNUSED": [3, 0]})
    loop = begin_loop([*made, f"data.gloss_dict={tmp_path / 'gloss_dict.npy'}"])
    assert loop.task.setup.glosses.names == ("A", "B", "UNUSED")
    assert left_out(loop) == {"b": "gloss not in data.gloss_dict: 'C'"}


# -- sums and counts


def test_the_loss_of_a_batch_is_the_sum_of_its_clips(tmp_path):
    """Ragged clips, padded or alone; each divided by nothing, and the counts are the words."""
    loop = begin_loop([*keypoints(tmp_path), "loss.smoothing=0.1"])
    task, (raw,) = loop.task, list(loop.loader)
    whole = task.setup.batch(raw, train=False)
    together = task.loss(whole, loop.progress).totals
    alone = [task.setup.batch(small, train=False) for small in task.split(raw, 1)]
    torch.testing.assert_close(together, sum(task.loss(batch, loop.progress).totals for batch in alone))
    assert torch.equal(task.counts(whole), sum(map(task.counts, alone)))
    assert task.counts(whole)[0] == sum(map(len, whole.references)) and task.terms.names == ("ctc", "smooth")


def test_a_rank_without_a_clip_adds_nothing(tmp_path):
    loop = begin_loop(keypoints(tmp_path))
    (raw,) = list(loop.loader)
    empty = loop.task.setup.batch(raw.part(0, 0, 1), train=True)
    totals = loop.task.loss(empty, loop.progress).totals
    totals.sum().backward()
    assert len(empty) == 0 and not totals.any() and not loop.task.counts(empty).any()


def test_layers_decay_from_the_head_down(tmp_path):
    loop = begin_loop([*keypoints(tmp_path), "train.layer_decay=0.5", "model.depth=2"])
    groups, model = loop.task.groups(), loop.task.model
    rates = {id(p): group.rate for group in groups for p in group.parameters}
    decayed = {id(p) for group in groups if group.decay for p in group.parameters}
    assert len(rates) == len(list(model.parameters()))
    assert rates[id(model.head.weight)] == rates[id(model.norm.weight)] == 1
    assert rates[id(model.blocks[1].mlp.up.weight)] == 0.5 and rates[id(model.blocks[0].mlp.up.weight)] == 0.25
    assert rates[id(model.front.convs[0].conv.weight)] == 0.125
    assert id(model.head.weight) in decayed and id(model.front.absent) not in decayed
    assert id(model.head.bias) not in decayed and id(model.blocks[0].norm1.weight) not in decayed


# -- two sets of weights


def test_the_average_goes_on_bit_for_bit_and_the_better_weights_are_named(tmp_path):
    made = [*keypoints(tmp_path), "train.average=0.5"]
    straight, first, second = (begin_loop(made) for _ in range(3))
    run_steps(straight, 6)
    run_steps(first, 3)
    first.validate(health=False)
    state = copy.deepcopy(first.state_dict())
    assert state["task"]["chosen"] in (LIVE, AVERAGE) and state["task"]["average"]["steps"] == 3
    second.load_state_dict(state)
    run_steps(second, 3)
    assert_same(second.state_dict()["task"]["average"], straight.state_dict()["task"]["average"])
    findings = straight.validate(health=False)
    numbers, chosen = findings.numbers, straight.task.chosen
    assert numbers["wer"] == numbers[f"{chosen}/wer"] == min(numbers["live/wer"], numbers["average/wer"])
    assert numbers["by_average"] == (chosen == AVERAGE)
    named = {LIVE: "by the weights themselves (their average: ", AVERAGE: "by their average (the weights themselves: "}
    assert named[chosen] in findings.lines[0]


def test_without_an_average_there_is_one_set(tmp_path):
    loop = begin_loop([*keypoints(tmp_path), "train.average=0"])
    run_steps(loop, 2)
    findings = loop.validate(health=False)
    assert "average/wer" not in findings.numbers and "average" not in findings.lines[0]
    assert loop.state_dict()["task"]["average"] is None
    loop.load_state_dict(copy.deepcopy(loop.state_dict()))


# -- the program


def program(root: Path, place: Path, *more: str) -> list[str]:
    few = ("train.epochs=2", "train.clips_per_step=4", "train.log_every=1")
    return [*case_options(root, "recognition", *few, *more), f"save_path={place}", "--checkpoint", "auto"]


def test_the_best_checkpoint_is_measured_on_the_test_splits(tmp_path):
    """Its figure is in the log and in the metrics; by a split's name that begins with test; going on tests again and
    leaves the same files."""
    clips = {f"clip{i}": moving_clip(40, i) for i in range(8)}
    ranges = {"train": (0, 4), "val": (4, 6), "test": (6, 7), "test_strangers": (6, 8)}
    splits = {split: list(clips)[first:last] for split, (first, last) in ranges.items()}
    notes = {name: note(poses, gloss="SONNE REGEN") for name, poses in clips.items()}
    data = write_csl(tmp_path / "data", clips, splits, notes)
    arguments = [*program(data, tmp_path / "runs"), "--test_best"]
    assert life(arguments) == 0
    (run,) = (tmp_path / "runs" / "default").iterdir()
    before = (run / "metrics.jsonl").read_bytes()
    lines = [json.loads(line) for line in before.splitlines()]
    tested = {line["split"]: line for line in lines if line["split"].startswith("test")}
    assert list(tested) == ["test", "test_strangers"] and lines[-1]["split"] == "test_strangers"
    log = (run / "train.log").read_text(encoding="utf-8")
    for split, line in tested.items():
        assert f"{split}, best.pt of epoch {line['epoch']}: WER {line['wer']:.1f} %" in log
    assert life(arguments) == 0
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_run_says_what_it_left_out_and_where_its_board_is(tmp_path):
    made = labelled(tmp_path, {"a": "A B", "b": "B C", "long": "A B C D E F"}, {"c": "A"})
    arguments = [*made, "train.epochs=1", f"train.log_dir={tmp_path / 'logs'}", f"save_path={tmp_path / 'out'}"]
    assert life(arguments, log=tmp_path / "said") == 0
    (run,) = (tmp_path / "out" / "default").iterdir()
    skipped = [json.loads(line) for line in (run / "skipped.jsonl").read_text().splitlines()]
    assert [line["name"] for line in skipped] == ["long"]
    said = (tmp_path / "said").read_text(encoding="utf-8")
    assert "left out: 1 cannot be aligned" in said and "keypoints by mamba, 3 glosses" in said
    assert any((tmp_path / "logs" / "default" / run.name).iterdir()) and not (run / "tensorboard").exists()
