"""What a live model says, against one pass over all that it wrote; where it stops if it would never stop; and when a
chunk is there, and what controls hear."""

import io
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from clips import moving_clip
from live_models import WIDER
from sentences import said_in_one_line
from signstream.data.tokens import TokenData
from signstream.inference.translation import while_signing
from signstream.inference.translation.live_controls import shuffled
from signstream.models.live_lm import LiveLM
from signstream.models.live_text import Speaker
from signstream.models.policies import POLICY, policy_of
from signstream.models.whole_words import joins
from test_export import make_tiny
from test_live_lm import CLIPS, WINDOWS, logits_of, model_of, said_live
from test_live_text import of_tokenizer, opened, tokens_in
from token_files import CHUNK, codes_of

for package in ("transformers", "tokenizers"):
    pytest.importorskip(package)

pytestmark = pytest.mark.usefixtures("one_thread")


class Listened:
    """The model's own wish, which keeps what it is told."""

    def __init__(self):
        self.own, self.moments = policy_of("own:0.5"), []

    def __call__(self, moment):
        self.moments.append(moment)
        return self.own(moment)


@pytest.mark.parametrize("name", WINDOWS)
def test_what_it_writes_is_what_it_would_say_again(name):
    """Each wish and each unit against a pass over all that was written, summaries among it."""
    model, listened = model_of(WINDOWS[name]), Listened()
    for codes in CLIPS:
        listened.moments = []
        speaks = Speaker(model, model.vocabulary, units=model.units, policy=listened)
        said = said_live(speaks, codes)
        made = speaks.stream.written
        if model.window.summary:
            made = model.prompts.summed_up(made)
        batch = model.prompts.batch([made], begins=[0], asked=[True])
        best = logits_of(model, batch)
        wishes = torch.sigmoid(best[batch.words :, model.offset] - best[batch.words :, model.offset + 1])
        torch.testing.assert_close(torch.tensor([m.wish for m in listened.moments]), wishes, atol=1e-4, rtol=1e-4)
        for units, moment in zip(said, listened.moments):
            assert bool(units) == (moment.wish > 0.5 and bool(moment.thought.words))
        assert all(len(units) <= 10 for units in said[:-1])
        check_likeliest(model, best, batch.targets[: batch.words].tolist())


def check_likeliest(model: LiveLM, best: torch.Tensor, said: list[int]) -> None:
    """Every unit is, of those that do not go on with a word that was said."""
    before: list[int] = []
    now: list[int] = []
    for logits, label in zip(best, said):
        if label == model.vocabulary.special("<COMMIT>"):
            before, now = before + now, []
            continue
        order = logits[: model.offset].argsort(descending=True).tolist()
        assert label == next(unit for unit in order if not joins(model.units, [*now, unit], before=before))
        assert logits[label] > logits[model.offset + 1], "or it would have stopped"
        now.append(label)


@pytest.mark.parametrize("name", WINDOWS)
def test_who_never_stops_is_stopped(monkeypatch, name):
    """Behind each chunk after live.words units, at the end after 256, or where the positions are all taken; a word that
    may go on is not said."""
    model = model_of(WINDOWS[name])
    word = next(unit for unit in range(model.offset) if model.units.text([unit] * 2) == "in in")
    column = torch.arange(model.offset + 2)
    always = 2.0 * (column == word) - (column == model.offset + 1).float()  # never <COMMIT>
    monkeypatch.setattr(model, "logits", lambda hidden: always.expand(*hidden.shape[:-1], -1))
    for codes in CLIPS:
        speaks = Speaker(model, model.vocabulary, units=model.units, policy=policy_of(POLICY))
        *early, late = said_live(speaks, codes)
        assert early == [[word] * 9] * len(codes)
        left = WINDOWS[name].positions - speaks.kept.next
        assert late == [word] * (min(left, 256) - 1) and (left < 256) == (name == "short")


def test_a_chunk_is_there_with_the_frame_after_which_its_line_comes(tmp_path):
    """The front end looks ahead, so that is not the chunk's last."""
    tiny = make_tiny(tmp_path)
    data, poses = tiny.tokenizer.config.data, moving_clip(95, 3)
    clip, frame = opened(of_tokenizer(tiny, WIDER), tokenizer=tiny.tokenizer).begin("clip", fps=30), 1000 / data.fps
    for number, pose in enumerate(poses, 1):
        for event in clip.frames(pose):
            assert event.consumed == pytest.approx(number * frame) and event.elapsed > event.consumed
            assert number == (event.chunk + 1) * data.chunk_len + data.lookahead
    assert event.chunk > 1 and data.lookahead > 0


def test_where_the_other_clip_has_no_chunk_nothing_is_heard(tmp_path):
    path, line = tmp_path / "tokens.jsonl", ""
    for name, count in (("a", 2), ("b", 0)):
        tokens_in(path, name=name, codes=codes_of(name, count), num_frames=CHUNK * count)
        line += path.read_text(encoding="utf-8")
    path.write_text(line, encoding="utf-8")
    hears = shuffled(TokenData.open(path), {})
    assert bool((hears(0) == -1).all()) and [len(hears(clip)) for clip in (0, 1)] == [2, 0]


def test_a_broken_first_frame_leaves_what_was_there(tmp_path, monkeypatch):
    """Behind the first chunk what was said is kept; before it there is nothing to keep."""
    tiny, out = make_tiny(tmp_path), tmp_path / "out.jsonl"
    live = opened(of_tokenizer(tiny, WIDER), tokenizer=tiny.tokenizer)
    out.write_text("of an earlier run")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"[[1, 2")))
    args = SimpleNamespace(input="-", fps=30)
    said_in_one_line(lambda: while_signing.write(out, partial(while_signing.of_frames, live, args)), "line 1")
    assert out.read_text() == "of an earlier run"
