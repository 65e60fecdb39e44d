"""When something is said: each policy by hand, and of all that what was said only grows and is written as in
training."""

import random
from pathlib import Path

import pytest
import torch

from live_models import WINDOW, chunks_of, flat, restored, speaker
from sentences import said_in_one_line
from signstream.inference import translate
from signstream.models.policies import POLICY, Moment, Thought, policy_of
from signstream.tokens.llm import live

for package in ("transformers", "tokenizers"):
    pytest.importorskip(package)

pytestmark = pytest.mark.usefixtures("one_thread")
SEEDS = pytest.mark.parametrize("seed", range(4))
DRAWN = (
    "own:0",
    "own:{share}",
    "own",
    "own:{share}:{first}",
    "wait:{first}:{pace}",
    "agree:1",
    "agree:{first}",
    "mix:{share}:0.1:2",
    "offline",
)


@pytest.fixture(scope="module")
def made():
    return restored()


def told(policy, *moments):
    """How many words it lets be said; moments: (wish, words that would be said from the beginning on)."""
    said, out = 0, []
    for heard, (wish, words) in enumerate(moments, 1):
        thought = [[ord(letter)] for letter in words[said:]]
        moment = Moment(heard, said, wish, lambda thought=thought: Thought(flat(thought), thought))
        out.append(policy(moment))
        said += out[-1]
    return out


def test_the_models_own_wish():
    moments = (0.2, "ab"), (0.5, "ab"), (0.51, "ab"), (0.9, "abc")
    assert told(policy_of("own:0.5"), *moments) == [0, 0, 2, 1] == told(policy_of("own"), *moments)
    assert told(policy_of("own:1"), *moments) == [0] * 4 == told(policy_of("own:0"), *[(float("nan"), "ab")] * 4)
    for above in range(0, 101):
        assert told(policy_of(f"own:{above / 100}"), (above / 100, "ab")) == [0], "it is to be above"


def test_wishes_of_several_chunks_are_one():
    """Of 0.3 and 0.4: something is due with 1 - 0.7 * 0.6 = 0.58. What came before the last words does not count."""
    moments = (0.3, "a"), (0.4, "a"), (0.4, "ab"), (0.1, "ab"), (0.4, "ab"), (0.45, ""), (0.2, "abc")
    assert told(policy_of("own:0.5:2"), *moments) == [0, 1, 0, 0, 0, 0, 2]
    assert told(policy_of("own:0.5:3"), *moments) == [0, 1, 0, 0, 1, 0, 1]
    assert told(policy_of("own:0.5"), *moments) == [0] * 7 == told(policy_of("own:0.7:2"), *moments)


def test_wait_says_a_word_every_so_many_chunks_as_far_as_it_thinks():
    moments = [(0, "abcdef")] * 8
    assert told(policy_of("wait:3:2"), *moments) == [0, 0, 1, 0, 1, 0, 1, 0] == told(policy_of("wait"), *moments)
    late = [(0, "")] * 4 + [(0, "abcd")] * 2
    assert told(policy_of("wait:1:1"), *late) == [0, 0, 0, 0, 4, 0]


def test_agreement_is_what_the_last_thoughts_begin_with():
    moments = (0, "ab"), (0, "ac"), (0, "acd"), (0, "acx"), (0, "acx")
    assert told(policy_of("agree:2"), *moments) == [0, 1, 1, 0, 1]
    assert told(policy_of("agree:3"), *moments) == [0, 0, 1, 1, 0]
    assert told(policy_of("agree:1"), *moments[:1]) == [2]


def test_the_mix_says_all_above_one_wish_and_what_is_agreed_on_above_another():
    moments = (0.1, "ab"), (0.15, "ab"), (0.3, "abc"), (0.9, "abcd"), (0.3, "abcdef"), (0.3, "abcdeg")
    assert told(policy_of("mix:0.5:0.2:2"), *moments) == [0, 0, 2, 2, 0, 1] == told(policy_of("mix"), *moments)
    assert told(policy_of("mix:1:1:2"), *moments) == [0] * 6


def test_who_does_not_need_the_thought_does_not_pay():
    def never():
        raise AssertionError

    for policy in ("offline", "own:0.5"):
        assert policy_of(policy)(Moment(1, 0, 0.4, never)) == 0


UNKNOWN = "own:2 own:nan own:0.5:0 agree:9999999999999 own:0.5:1:1 wait:0 wait:x agree:-1 mix:0.5:0.2:0 offline:1 Own"


@pytest.mark.parametrize("policy", ["", *UNKNOWN.split()])
def test_an_unknown_policy_is_one_line(policy):
    said_in_one_line(lambda: policy_of(policy), f"no policy .*: {POLICY}, wait:3:2, agree:2, mix:0.5:0.2:2 and offline")


def test_the_default_is_the_same_wherever_it_is_written(capsys):
    with pytest.raises(SystemExit):
        translate.main(["--help"])
    assert f"{POLICY} (the default)" in " ".join(capsys.readouterr().out.split())
    assert f"\nhear {POLICY} own --controls\n" in (Path(__file__).parents[1] / "train_lm.sh").read_text()


@SEEDS
@pytest.mark.parametrize("kind", DRAWN)
def test_what_was_said_only_grows_and_is_written_as_in_training(made, kind, seed):
    draw = random.Random(f"{kind} {seed}")
    policy = kind.format(share=round(draw.random(), 2), first=draw.randint(1, 3), pace=draw.randint(1, 3))
    chunks, speaks = chunks_of(made.vocabulary, seed, 12), speaker(made, policy)
    words, after, text = [], [], ""
    for t, ids in enumerate([*chunks, None]):
        spoken = speaks.end() if ids is None else speaks.hear(ids)
        words += spoken.words
        after += [t] * len(spoken.words)
        before, text = text, made.units.text(flat(words))
        assert text.startswith(before) and speaks.said == len(words) == len(text.split())
        assert text.split()[: len(before.split())] == before.split(), "no word goes on"
        assert speaks.kept.get_seq_length() <= WINDOW.bound and len(spoken.thought) <= 24
    assert speaks.stream.written == live(made.vocabulary, chunks, words, after=after)
    assert kind != "offline" or set(after) <= {12}
    assert words, "the model is drawn so that it speaks"


@SEEDS
def test_a_thought_that_is_not_said_leaves_no_trace(made, seed):
    """Of two streams of which one thinks and one does not, both say nothing."""
    silent, thinks = speaker(made, "offline"), speaker(made, "wait:99")
    thoughts = 0
    for ids in chunks_of(made.vocabulary, seed, 12):
        assert silent.hear(ids).thought == []
        thoughts += len(thinks.hear(ids).thought)
        for ours, theirs in zip(silent.kept.keys + silent.kept.values, thinks.kept.keys + thinks.kept.values):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        assert silent.kept.next == thinks.kept.next
    assert thoughts > 100
    assert silent.end() == thinks.end()
