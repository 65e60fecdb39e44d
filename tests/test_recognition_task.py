"""Recognition as a task: eight clips by heart from whatever is read, what is left out and what counts, two sets of
weights, the best checkpoint on the test split, and checkpoints that are somebody's."""

import copy
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from clips import moving_clip
from data_sets import note, write_csl
from helpers import TINY_TRAINING, assert_same, begin_loop, case_options, places, run_steps
from phoenix_data import save_info, save_table, write_frames
from processes import life
from signstream.config import from_dict
from signstream.data.phoenix2014 import FEATURES
from signstream.errors import UserError
from signstream.inference.export_beside import latents_text, write_latents_beside, write_vectors_beside
from signstream.tasks.recognition.restore import restore
from signstream.tasks.recognition.validation import AVERAGE, LIVE
from signstream.tokens.format import TokenSequence, write_line
from signstream.tokens.vectors import CodeVectors
from signstream.training.loop import Loop

BY_HEART = ("train.epochs=60", "train.warmup_steps=5", "train.wd=0", "train.lr=1e-2", "model.width=48")
PARTS, LEVELS, SIZE, DIM = ("F", "RH"), (1, 2), 32, 8
WORDS = ("SONNE", "REGEN", "WIND", "MORGEN", "NORD")
VECTORS = torch.randn(2, 2, SIZE, DIM, generator=torch.Generator().manual_seed(0))
HAS_LEVEL = (torch.arange(2) < torch.tensor(LEVELS)[:, None])[..., None, None]


def options(root: Path, *more: str) -> list[str]:
    return case_options(root, "recognition", "train.sample_clips=5", *more, plain=True)


# -- eight clips by heart


def keypoints(folder: Path) -> list[str]:
    return options(clips_of_three_words(folder), *BY_HEART)


def tokens(source: str, folder: Path) -> list[str]:
    """Files of tokens and of what lies beside them: chunks that are drawn, so that no two clips have the same."""
    root, rng = clips_of_three_words(folder), torch.Generator().manual_seed(1)
    vectors = CodeVectors(PARTS, LEVELS, "one", VECTORS * HAS_LEVEL)
    for split in ("train", "val"):
        rng.manual_seed(1)
        clips = []
        for name in sorted(json.loads((root / "annotations.json").read_text(encoding="utf-8"))):
            codes = torch.randint(SIZE, (4, 2, 2), generator=rng)
            codes[:, 0, 1] = -1
            head = {"fps": 30.0, "chunk_len": 10, "num_frames": 40, "parts": PARTS, "levels": LEVELS}
            clips.append(TokenSequence(name=name, codes=codes, codebook_size=SIZE, tokenizer="one", **head))
        path = folder / f"{split}.jsonl"
        path.write_text("".join(map(write_line, clips)), encoding="utf-8")
        write_vectors_beside(path, vectors, None)
        fields = [latents_text(torch.randn(4, 2, DIM, generator=rng)).encode() for _ in clips]
        write_latents_beside(path, fields, vectors, chunks={clip.name: 4 for clip in clips})
    return options(root, *BY_HEART, f"data.source={source}", f"data.tokens={folder}/{{split}}.jsonl")


def clips_of_three_words(folder: Path) -> Path:
    """Eight clips of 40 frames, three words each, to train and to validate on."""
    clips = {f"clip{i}": moving_clip(40, i) for i in range(8)}
    words = [np.random.default_rng(i).permutation(WORDS)[:3] for i in range(8)]
    notes = {name: note(poses, gloss=" ".join(line)) for (name, poses), line in zip(clips.items(), words)}
    return write_csl(folder / "data", clips, {"train": list(clips), "val": list(clips)}, notes)


def frames(folder: Path) -> list[str]:
    """Eight clips of ten small pictures of noise."""
    root = folder / "data"
    for split in ("train", "dev"):
        entries = []
        for i in range(8):
            name = f"clip{i}"
            write_frames(root / FEATURES / split / name / "1", 10, side=32, seed=i)
            label = " ".join(np.random.default_rng(i).permutation(WORDS)[:3])
            about = {"folder": f"{split}/{name}/1/*.png", "signer": "S", "label": label, "num_frames": 10}
            entries.append({"fileid": name, **about})
        save_info(root, split, entries)
    plain = ("crop=false", "mirror=false", "ops=0", "erase=0", "time_scale=0")
    return [
        *(*places(root), *TINY_TRAINING, "task=recognition", "data.frames.size=32", "data.frames.resize=32"),
        *(f"data.frames.augment.{option}" for option in plain),
        *("model.depth=1", "model.head=16", "model.state=8", "model.frames.attention=[]", "model.frames.stem_blocks=1"),
        *(
            "model.frames.state=4",
            "model.dropout=0",
            "model.drop_path=0",
            "train.average=0.9",
            *BY_HEART,
            "train.epochs=50",
        ),
    ]


SOURCES: dict[str, Callable[[Path], list[str]]] = {
    "keypoints": keypoints,
    "codes": partial(tokens, "codes"),
    "codes as drawn": lambda folder: [*tokens("codes", folder), "model.tokens.vectors=false"],
    "latents": partial(tokens, "latents"),
    "frames": frames,
}


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
    assert torch.equal(rows, VECTORS * HAS_LEVEL)
    drawn = begin_loop(SOURCES["codes as drawn"](tmp_path / "b")).task.model.front.rows
    assert drawn.shape == rows.shape and not torch.equal(drawn[0, 0], rows[0, 0])


# -- what is left out, and what counts


def labelled(folder: Path, train: dict[str, str], val: dict[str, str], frames: int = 40) -> list[str]:
    """Options of clips with these glosses."""
    clips = {name: moving_clip(frames, seed) for seed, name in enumerate([*train, *val])}
    notes = {name: note(clips[name], gloss=gloss) for name, gloss in {**train, **val}.items()}
    root = write_csl(folder / "data", clips, {"train": list(train), "val": list(val)}, notes)
    return options(root, "model.keypoints.strides=[4, 2]")


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


# -- checkpoints that are somebody's


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict:
    """Of a run that reads codes."""
    loop = begin_loop(SOURCES["codes"](tmp_path_factory.mktemp("saved")))
    run_steps(loop, 2)
    return copy.deepcopy(loop.state_dict())


def test_a_checkpoint_says_all_that_it_takes_to_recognise(saved):
    restored = restore(from_dict(saved["config"]), saved)
    assert restored.kept.glosses.names == tuple(sorted(WORDS)) and restored.kept.tokenizer == "one"
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
