"""What is said of a tokenizer whose one part tells what is signed: its report and page, its validation."""

import json
import shutil
from collections import Counter

import pytest
import torch

from benchmarks import ablation
from browsing import browse, browser
from data_sets import signer_root
from helpers import ARCHS, begin_loop, run_steps, tiny_options
from signstream.data.transforms import num_chunks
from signstream.inference.report.build import evaluate
from signstream.inference.report.items import Item, items_of
from signstream.inference.report.measure import Subject
from signstream.inference.report.page import render, render_compare
from signstream.inference.report.player_data import make_player
from signstream.inference.report.sections import glosses_told
from signstream.inference.tokenizer import Tokenizer

TAUGHT = (*ARCHS["mlp"], "model.rvq.semantic=gloss", "model.rvq.look_back=3", "train.epochs=40")
CARRIER = 4
LINE = "The codes of the full body tell what is signed and draw nothing"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return signer_root(tmp_path_factory.mktemp("signer"), 20, {"train": (0, 12), "val": (12, 18)}, frames=70)


def trained(root, *options, steps=16):
    loop = begin_loop(tiny_options(root, *TAUGHT, "train.clips_per_step=4", *options))
    run_steps(loop, steps)
    return loop


@pytest.fixture(scope="module")
def loop(root):
    loop = trained(root)
    loop.validate(health=False)
    return loop


@pytest.fixture(scope="module")
def subject(loop):
    return Subject(Tokenizer(loop.state_dict()), loop.config, loop.task.setup.cache)


@pytest.fixture(scope="module")
def report(subject):
    torch.set_num_threads(1)
    return evaluate(subject, "val")


@pytest.fixture(scope="module")
def player(subject):
    return make_player(subject.tokenizer, subject.cache, subject.cache.split("val"), count=3)


# -- the report


def test_the_report_names_the_part(report):
    assert report["tells"] == "full_body" and report["levels"]["full_body"] == 1
    assert any(note.startswith("tells: the codes of full_body tell what is signed") for note in report["notes"])
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_each_code_has_the_glosses_of_the_segments_it_occurs_in(subject, report):
    tokenizer, config, cache = subject
    counts: dict[str, Counter] = {}
    clips = cache.split("val")
    codes = {i: tokenizer.read([cache.frames(i)], [i]).codes[:, CARRIER, 0].tolist() for i in clips}
    for item in items_of(cache, clips, config.data).segments:
        for code in codes[item.clip][item.first : item.last]:
            counts.setdefault(str(code), Counter())[item.glosses[0]] += 1
    counts.pop("-1", None)
    told = report["meaning"]["told"]
    assert told.keys() == counts.keys() and len(told) > 1
    for code, found in told.items():
        assert len(found) == min(len(counts[code]), 3)
        assert [n for _, n in found] == [n for _, n in counts[code].most_common(3)]
        assert all(counts[code][gloss] == n for gloss, n in found)
    assert all(len(codes[i]) == num_chunks(cache.clips[i].length, config.data.chunk_len) for i in clips)


def test_a_chunk_that_shows_nothing_has_no_code_that_tells():
    items = [Item(7, 0, 3, ("A",)), Item(9, 1, 2, ("B",))]
    found = glosses_told(torch.tensor([3, -1, 3, 5, 3]), items, torch.tensor([7, 7, 7, 9, 9]))
    assert found == {"3": [["A", 2], ["B", 1]]}


def test_what_a_code_decodes_to_alone_is_shown_of_parts_that_are_drawn(subject, player):
    assert list(player["dictionary"]) == [tag for tag in subject.tokenizer.parts if tag != "FB"]
    assert all(player["dictionary"].values()) and all("FB" in clip["codes"] for clip in player["clips"])


# -- the page

LOOK = """
out.lines = $$(".lead").map((line) => line.textContent).filter((line) => line.startsWith("The codes of the"));
const open = (row) => { $$(".cells")[row].firstChild.click(); return $(".card").textContent; };
$(".dictionary").open = true;
out.drawn = open(3); await drawn(); out.pictures = $$(".grid canvas").length;
out.tells = open(4); await drawn(); out.none = $$(".grid canvas, .card .top canvas").length;
out.title = $(".dictionary summary").textContent;
out.words = $$(".grid .place .empty").map((cell) => cell.textContent);
out.tips = $$(".toggle").map((label) => label.dataset.tip.endsWith("draw nothing"));
"""


@browser
def test_the_page_says_it_wherever_such_codes_are_shown(report, player, tmp_path):
    found = browse(render(report, player), tmp_path, LOOK)
    assert found["problems"] == [] and found["pictures"] > 0 and found["none"] == 0
    assert found["lines"] == [
        f"{LINE}: what is shown and measured of it is put together from the other parts.",
        f"{LINE}.",
    ]
    assert "nothing is drawn from it" in found["tells"] and "nothing is drawn" not in found["drawn"]
    assert found["title"].endswith("they tell what is signed and draw nothing")
    told = report["meaning"]["told"]
    words = {", ".join(gloss for gloss, _ in glosses) for glosses in told.values()} | {"not drawn"}
    assert set(found["words"]) <= words and set(found["words"]) != {"not drawn"}
    first = player["clips"][0]["codes"]["FB"][0][0]
    facts = [f"{gloss} {chunks}×" for gloss, chunks in told.get(str(first), [])]
    assert "In segments of" in found["tells"] and all(fact in found["tells"] for fact in facts)
    assert found["tips"] == [False] * 4 + [True]


@browser
def test_runs_side_by_side_say_whose_part_tells(report, tmp_path):
    other = {**report, "tells": None, "run": {**report["run"], "name": "other"}}
    script = 'out.cards = $$(".runs li").map((card) => card.textContent);'
    found = browse(render_compare([report, other]), tmp_path, script)
    assert found["problems"] == [] and [LINE in card for card in found["cards"]] == [True, False]


# -- validation


def with_known_words(root, folder):
    """The same clips; a validation clip's glosses are one of training's."""
    shutil.copytree(root, folder)
    path = folder / "annotations.json"
    notes, splits = (json.loads((folder / name).read_text()) for name in (path.name, "split_files.json"))
    word = notes[splits["train"][0]]["gloss"].split()[0]
    for name in splits["val"]:
        notes[name].update(gloss=word)
    path.write_text(json.dumps(notes), encoding="utf-8")
    return folder


def test_a_loss_of_which_a_split_has_nothing_is_not_reported(root, loop, tmp_path):
    """Each clip of this validation split has a gloss that training has not."""
    mute = loop.validate(health=True)
    whole = trained(with_known_words(root, tmp_path / "data"), f"data.cache={tmp_path}/cache").validate(health=True)
    assert whole.numbers["reading"] > 0 and "reading" in whole.lines[0]
    assert "reading" not in mute.numbers and "reading" not in mute.lines[0]
    assert list(mute.numbers) == [name for name in whole.numbers if name != "reading"]
    assert all(mute.numbers[name] == whole.numbers[name] for name in mute.numbers if name != "loss")
    assert mute.score == whole.score and mute.numbers["loss"] < whole.numbers["loss"]


def test_losses_before_there_are_codes_are_reported_as_ever(root):
    loop = begin_loop(tiny_options(root, *TAUGHT, "data.max_frames=10"))  # a chunk a clip: no two follow each other
    loop.task.begin()
    numbers = loop.validate(health=False).numbers
    assert numbers["commit"] == numbers["usage"] == 0 and numbers["rec"] > 0 and "temporal" not in numbers


def test_what_is_put_together_is_called_so(loop):
    lines = [line for line in loop.validate(health=True).lines if ": error " in line]
    assert ["put together from the others" in line for line in lines] == [False] * 5 + [True]
    assert lines[-1].startswith("full_body, ")


# -- a benchmark


@torch.no_grad()
def show_the_past(loop):
    """Half of the carrier's codes are what some chunks are in their clip, half what they are alone."""
    setup, model = loop.task.setup, loop.task.model.eval()
    batch = setup.chunked(setup.clips(loop.val_loader.clips[:3]), train=False)
    rows = batch.earlier.chunks.nonzero()[:16, 0]
    within, alone = (model.encode(batch.inputs, earlier)[CARRIER, rows] for earlier in (batch.earlier, None))
    model.quantizer.codebook[CARRIER, 0] = torch.cat((within, alone))


def test_the_first_codes_of_a_run_that_looks_back_are_those_of_its_clips(root, monkeypatch):
    """And its part that tells is drawn by the others."""
    loop = trained(root)
    show_the_past(loop)
    model, setup = loop.task.model, loop.task.setup
    seen, detokenise = [], model.detokenise

    def spoilt(codes):
        seen.append(codes)
        views = detokenise(codes)
        views[CARRIER] = views[CARRIER] * stretch
        return views

    monkeypatch.setattr(model, "detokenise", spoilt)
    stretch = 1.0
    error = ablation.first_code(loop)
    batches = [setup.chunked(clips, train=False) for clips in loop.val_loader]
    within = torch.cat([model.read(batch.inputs, batch.earlier).codes for batch in batches])[..., :1]
    alone = torch.cat([model.read(batch.inputs).codes for batch in batches])[..., :1]
    assert torch.equal(torch.cat(seen), within) and not torch.equal(within, alone)
    stretch = 9.0
    assert ablation.first_code(loop) == error
