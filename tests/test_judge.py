"""The judge of tokens, and its table: everything is read once by the same recogniser, what was trained is not trained
again, and words of other clips are nobody's."""

import json

import pytest

from benchmarks import meaning
from data_sets import GOOD, write_csl
from signstream.config import load_config
from signstream.data.sources import open_sequences
from signstream.errors import UserError
from signstream.inference.judge import Judged, recipe, short_form, shuffle_words
from signstream.inference.session import open_session
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


def test_the_short_form_holds_tokens_against_keypoints(tiny, tmp_path, capsys):
    told = []
    with open_session(tiny.checkpoint, None, ["train.threads=1"]) as session:
        judged = short_form(session, tmp_path, [*SMALL, "train.epochs=1"], tell=told.append)
    assert list(judged) == ["keypoints", "tokens", "tokens of other clips"]
    assert all(set(each.wer) == {"val"} and each.seconds > 0 for each in judged.values())
    assert (tmp_path / "train.jsonl").exists() and (tmp_path / "val.jsonl").exists()
    assert [line.split(":")[0] for line in told] == list(judged) and not capsys.readouterr().out


def test_clips_without_glosses_cannot_judge(tiny, tmp_path):
    root = write_csl(
        tmp_path / "data", GOOD, notes={name: {"text": "hm", "num_frames": len(GOOD[name])} for name in GOOD}
    )
    places = ["train.threads=1", f"data.root={root}", f"data.cache={tmp_path / 'cache'}"]
    with (
        open_session(tiny.checkpoint, None, places) as session,
        pytest.raises(UserError, match="of train has glosses"),
    ):
        short_form(session, tmp_path / "tokens")
