"""The judge of tokens, and its table: everything is read once by the same recogniser, what was trained is not trained
again, and words of other clips are nobody's."""

import json
import tempfile
from functools import partial
from pathlib import Path

import pytest

from benchmarks import meaning
from data_sets import GOOD, write_csl
from processes import on_ranks
from signstream.config import load_config
from signstream.data.sources import open_sequences
from signstream.errors import UserError
from signstream.inference import evaluate, judge
from signstream.inference.judge import Judged, recipe, shuffle_words
from signstream.inference.report import build, judged, sections
from signstream.inference.session import open_session
from signstream.training.distributed import Ranks
from test_export import Tiny, make_tiny

SMALL = (
    "model.width=32",
    "model.depth=1",
    "model.keypoints.part_width=16",
    "model.keypoints.strides=[4, 2]",
    "train.warmup_steps=2",
    "train.device=cpu",
    "train.threads=1",
)


@pytest.fixture(autouse=True)
def one_version(monkeypatch):
    """Of training's tokens; two dozen would only take longer."""
    monkeypatch.setattr(judge, "VERSIONS", 1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def table(tiny, tmp_path_factory) -> list[str]:
    return [f"--checkpoint={tiny.checkpoint}", "--clips=30", f"--work={tmp_path_factory.mktemp('work')}", *SMALL]


def test_the_table_has_a_row_for_all_that_is_read_and_goes_on(table, tmp_path, monkeypatch, capsys):
    out = tmp_path / "meaning.json"
    meaning.main([*table, "--epochs=1", "--seeds=1", f"--out={out}"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == list(meaning.VARIANTS) and "nan" not in "".join(rows)
    kept = json.loads(out.read_text())
    assert all(set(runs["0"]["wer"]) > set(meaning.SPLITS) for runs in kept["runs"].values())
    sent = kept["codes_a_chunk"]
    assert sent["first"] <= sent["k-means"] == 5 and sent["first"] <= sent["six"] <= sent["full"]

    trained = []

    def judged(config, ranks, **_) -> Judged:
        trained.append(config)
        return Judged(dict.fromkeys(meaning.SPLITS, 7.0), 1)

    monkeypatch.setattr(meaning, "judge", judged)
    meaning.main([*table, "--epochs=1", "--seeds=2", "--only=latents", f"--out={out}"])
    assert [(config.train.seed, config.data.source) for config in trained] == [(1, "latents")]
    assert "| 2 |" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"is of epochs 1, not 2: name another --out"):
        meaning.main([*table, "--epochs=2", f"--out={out}"])


def test_the_recipe_reads_the_clips_of_the_tokenizer_as_they_are_prepared_there(tiny):
    options = ["data.fps=12", "data.smooth=0", "data.num_joints=100", f"data.root={tiny.root}", "data.min_score=0.4"]
    data = recipe(load_config(None, options).data, ["data.source=codes", "data.tokens='{split}.jsonl'"]).data
    assert (data.fps, data.smooth, data.num_joints, data.min_score) == (12, 0, 100, 0.4)
    assert (data.root, data.source, data.clean) == (str(tiny.root), "codes", "none")
    assert "full_body" not in data.body_parts  # the recipe's own
    phoenix = load_config(None, ["data.layout=phoenix2014"]).data
    assert recipe(phoenix).data.clean == "phoenix2014"


def test_words_are_shuffled_within_their_split(tiny):
    data = recipe(tiny.tokenizer.config.data).data
    before, after, again = (open_sequences(data, quiet=True) for _ in range(3))
    shuffle_words(after, 3)
    shuffle_words(again, 3)
    assert after.examples == again.examples
    for clips in before.splits.values():
        words = [[sequences.examples[i].words for i in clips] for sequences in (before, after)]
        assert words[0] != words[1] and sorted(words[0]) == sorted(words[1])
    assert [each._replace(words=()) for each in before.examples] == [each._replace(words=()) for each in after.examples]


# -- evaluate --judge


def quick_recipe(folder: Path) -> Path:
    """The recipe, but small and of one epoch."""
    base = {"base": str(Path(judge.RECIPE).resolve())}
    small = {"model": {"width": 32, "depth": 1, "keypoints": {"part_width": 16, "strides": [4, 2]}}}
    path = folder / "quick.yaml"
    path.write_text(json.dumps({**base, **small, "train": {"epochs": 1, "warmup_steps": 2}}))
    return path


def test_the_report_has_what_the_tokens_cost_and_leaves_nothing_behind(tiny, tmp_path, monkeypatch, capsys):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    recipe, out = quick_recipe(tmp_path), tmp_path / "out"
    for module in (judge, judged):
        monkeypatch.setattr(module, "RECIPE", recipe)
    monkeypatch.setattr(sections, "choose", lambda *_, **__: None)  # no probe: it takes longer than the judge
    places = ["--checkpoint", str(tiny.checkpoint), "--split=val", "--judge", f"--out={out}"]
    evaluate.main([*places, "export.codes_per_chunk=4", "train.device=cpu", "train.threads=1"])
    found = json.loads((out / "report.json").read_text(encoding="utf-8"))["judge"]
    assert list(found["rows"]) == ["keypoints", "tokens", "tokens of other clips"]
    assert all(set(row["wer"]) == {"val"} and row["seconds"] > 0 for row in found["rows"].values())
    about = ("codes_per_chunk", "hold", "recipe", "epochs", "seed", "seeds")
    assert [found[key] for key in about] == [4, tiny.tokenizer.hold, str(recipe), 1, 42, 1]
    said = capsys.readouterr()
    assert "judge: tokens of other clips: epoch 1 of 1" in said.err and "judge:" not in said.out
    wrong = found["rows"]["tokens"]["wer"]["val"]
    assert f"gets {wrong:.1f} % of the words of val wrong from the tokens" in said.out and "one seed" in said.out
    assert not list((tmp_path / "scratch").iterdir())


def on_rank(checkpoint: Path, recipe: Path, rank: int) -> dict:
    judge.RECIPE = recipe
    with open_session(checkpoint, None, ["train.device=cpu", "train.threads=1"]) as session:
        return judged.judge_of(session)(session.tokenizer)["rows"]


@pytest.mark.slow
def test_two_ranks_judge_by_the_same_recipe_and_agree(tiny, tmp_path):
    recipe = quick_recipe(tmp_path)
    first, second = on_ranks(2, partial(on_rank, tiny.checkpoint, recipe), tmp_path / "ranks", join=False)
    for name, row in first.items():
        assert row["wer"] == second[name]["wer"] and set(row["wer"]) == {"val"}
    assert not judge.recipe(tiny.tokenizer.config.data).train.scale_with_world


class Apart(Ranks):
    """The other one's disk is another."""

    def collect(self, value: object) -> list:
        return [value, False]


def test_ranks_without_a_common_folder_are_told_so():
    with pytest.raises(UserError, match="is not one folder for all processes: set TMPDIR"), judged.scratch(Apart()):
        pytest.fail("it went on")


@pytest.mark.parametrize(("wordless", "where"), [("a", "train"), ("b", "val or test")])
def test_what_cannot_be_judged_is_refused_before_anything_is_measured(tiny, tmp_path, monkeypatch, wordless, where):
    monkeypatch.setattr(build, "measure", lambda *_: pytest.fail("it measured"))
    clips = {**GOOD, "c": GOOD["a"]}
    notes = {wordless: {"text": "hm", "num_frames": len(clips[wordless])}}
    root = write_csl(tmp_path / "data", clips, {"train": ["a"], "val": ["b"], "dev": ["c"]}, notes)
    places = [f"data.root={root}", f"data.cache={tmp_path / 'cache'}", "train.device=cpu", "train.threads=1"]
    with pytest.raises(UserError, match=f"data: no clip of {where} has glosses"):
        evaluate.main(["--checkpoint", str(tiny.checkpoint), "--split=val", "--judge", *places])
