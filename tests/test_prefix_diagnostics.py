"""What a prefix language model's validation says of its signs beside the loss: which sentence they find, and which
words it would say without them. Of one that cannot tell clips apart it must say so."""

from types import SimpleNamespace

import pytest
import torch

import prefix_runs
import test_live_lm
from helpers import begin_loop, run_steps
from signstream.tasks.prefix_lm import retrieval
from signstream.tasks.prefix_lm.forms import Spoken
from signstream.tasks.prefix_lm.retrieval import MOST, beyond_others, different
from signstream.training.loop import Loop

for package in ("transformers", "tokenizers", "sacrebleu"):
    pytest.importorskip(package)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["offline", "live"])
def learnt(request, tmp_path_factory) -> Loop:
    """Four clips, nearly by heart. Nobody may change it."""
    folder = tmp_path_factory.mktemp(request.param)
    live = request.param == "live"
    loop = begin_loop(test_live_lm.options(folder, 4) if live else prefix_runs.options(folder, list(prefix_runs.TEXTS)))
    run_steps(loop, 40)
    return loop


def test_who_reads_the_signs_finds_the_sentence_by_them(learnt):
    findings = learnt.validate(health=True)
    numbers = findings.numbers
    assert numbers["retrieval/recall_1"] == 1 and numbers["retrieval/median_rank"] == 1
    assert numbers["retrieval/chance/recall_1"] == pytest.approx(1 / 4)
    assert numbers["none/anyway"] < 0.7 > numbers["shuffled/anyway"]
    assert "% of the words anyway; with no signs" in findings.lines[1]
    assert findings.lines[2].startswith("the right sentence by the signs: R@1 1 (chance 0.25), R@5 1 (chance 1)")


@pytest.mark.parametrize("seen", ["nothing", "the same"])
def test_who_cannot_tell_clips_apart_has_chance_and_says_all_anyway(learnt, monkeypatch, seen):
    sequences = learnt.task.setup.sequences
    same = sequences.rows(0)[: None if seen == "the same" else 0]
    monkeypatch.setattr(sequences, "rows", lambda clip, rng=None: same)
    numbers = learnt.validate(health=True).numbers
    for name in ("recall_1", "recall_5", "median_rank"):
        assert numbers[f"retrieval/{name}"] == pytest.approx(numbers[f"retrieval/chance/{name}"])
    if seen == "the same":
        assert numbers["shuffled/anyway"] == 1 > numbers["none/anyway"]
    elif learnt.task.setup.form.says_early:
        assert "none/anyway" not in numbers, "nothing is said"
    else:
        assert numbers["shuffled/anyway"] == numbers["none/anyway"] == 1


def test_with_its_own_signs_it_says_what_it_said(learnt):
    """All of it; and a word of which it would not say each unit is none of that."""
    setup = learnt.task.setup
    setup.model.eval()
    codes = [setup.sequences.rows(clip) for clip in learnt.val_loader.clips]
    spoken = setup.form.spoken(codes)
    every = sum(len(each.words) for each in spoken)
    assert setup.form.said_anyway(codes, spoken) == every > 15
    assert [setup.units.text([unit for word in each.words for unit in word]) for each in spoken] == [
        each.text for each in spoken
    ]
    first, *others = spoken
    last = [*first.words[-2], (first.words[-1][0] + 1) % setup.model.offset]
    changed = first._replace(words=[*first.words[:-2], last], after=first.after[:-1])
    assert setup.form.said_anyway(codes, [changed, *others]) == every - 2
    assert setup.form.said_anyway(codes[:1], [Spoken("", [], [], 0)]) == 0
    setup.model.train()


@torch.no_grad()
def test_a_sentence_is_as_likely_as_the_loss_says(learnt):
    setup, clips = learnt.task.setup, list(learnt.val_loader.clips)
    setup.model.eval()
    codes = [setup.sequences.rows(clip) for clip in clips]
    likely = setup.form.likelihoods(codes, clips)
    for i, clip in enumerate(clips):
        total = setup.totals(setup.form.told(codes[i : i + 1], [clip]))[0]
        torch.testing.assert_close(-likely[i : i + 1], total.double(), rtol=1e-4, atol=1e-5)
    setup.model.train()


def test_ranks_share_the_clips(learnt, monkeypatch):
    """Each brings its rows, and the sum of them is what one has alone, to the last bit."""
    setup, clips, parts = learnt.task.setup, list(learnt.val_loader.clips), []
    setup.model.eval()
    for rank, world in ((0, 1), (0, 3), (1, 3), (2, 3)):
        ranks = SimpleNamespace(rank=rank, world=world, device="cpu", sum_=lambda own: parts.append(own) or own)
        monkeypatch.setattr(setup, "ranks", ranks)
        retrieval.retrieval(setup, clips)
    setup.model.train()
    assert torch.equal(sum(parts[1:]), parts[0]) and bool((parts[0] < 0).all())


# -- which


def test_clips_say_different_things_and_lie_all_over_the_split():
    assert different([7, 3, 9, 4], ["a", "b", "a", "c"]) == [7, 3, 4]
    many = list(range(100))
    found = different(many, [str(clip) for clip in many])
    assert len(found) == MOST and found == sorted(set(found)) and found[0] == 0 and found[-1] > 95
    assert different([], []) == []


def test_what_the_language_alone_says_of_a_sentence_counts_for_nothing():
    likely = -100 * torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    longer = likely - torch.tensor([0.0, 400, 50, 0, 10])
    torch.testing.assert_close(beyond_others(longer), beyond_others(likely), atol=2e-3, rtol=0)
    assert not beyond_others(longer[:1].expand(5, 5)).any(), "all clips are as one"
