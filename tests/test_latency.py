"""Latency against cases worked by hand, against what must hold for every policy, and against SimulEval and simulstream;
the cuts of a stream against all cuts there are, and against mweralign."""

import argparse
import itertools
import random
from types import SimpleNamespace

import pytest

from signstream.models.metrics.latency import (
    Said,
    Sentence,
    Unit,
    by_sentence,
    elapsed,
    erasure,
    lags,
    real_time_factor,
    summary,
)
from signstream.models.metrics.resegment import resegment

FAR = 1e12  # of signing: no delay reaches its end


def units(*times):
    return [Unit("x", consumed, done) for consumed, done in times]


def random_delays(rng, most, latest):
    return sorted(rng.uniform(0, latest) for _ in range(rng.randint(1, most)))


def pace(delays, reference, signing):
    """Of each measure, how long a unit takes somebody who never lags."""
    return {"al": signing / reference, "laal": signing / max(reference, len(delays)), "dal": signing / len(delays)}


# -- by hand


def test_three_words_for_a_reference_of_four():
    # 2000 ms: a unit takes 2000 / 4 = 500 ms by the reference, 2000 / 3 = 666.67 by the words that were said.
    # Words at 800, 1400, 2000; the last reaches the end and counts.
    #   al, laal (the longer is the reference):  800 - 0, 1400 - 500, 2000 - 1000 -> 2700 / 3 = 900
    #   dal: g = 800, max(1400, 1466.67), max(2000, 2133.33); less 0, 666.67, 1333.33 -> 800 each
    got = lags([800, 1400, 2000], signing=2000, reference=4)
    assert got == pytest.approx((900, 900, 800, 800))


def test_four_words_for_a_reference_of_two():
    # 1000 ms: 500 ms a unit by the reference, 250 by the words. Words at 250, 500, 1000, 1000: al and laal count three.
    #   al    250 - 0, 500 - 500, 1000 - 1000 -> 250 / 3
    #   laal  250 - 0, 500 - 250, 1000 - 500  -> 1000 / 3
    #   dal   g = 250, 500, 1000, max(1000, 1250); less 0, 250, 500, 750 -> (250 + 250 + 500 + 500) / 4 = 375
    got = lags([250, 500, 1000, 1000], signing=1000, reference=2)
    assert got == pytest.approx((250 / 3, 1000 / 3, 375, 250))


def test_a_first_word_after_the_end_counts_alone():
    # dal: g = 1500, max(1600, 1500 + 500) = 2000, less 0, 500.
    assert lags([1500, 1600], signing=1000, reference=2) == pytest.approx((1500, 1500, 1500, 1500))


def test_nothing_said_has_no_latency():
    assert lags([], signing=1000, reference=3) is None
    assert lags([100], signing=1000, reference=0) is None


def test_means_over_clips_and_what_is_left_out():
    # first consumed: 800, 400, mean 600; first elapsed: 900, 450, mean 675. al of one unit: its delay.
    clips = [
        Said(units((800, 900)), signing=1000, reference=1),
        Said([], signing=500, reference=2),
        Said(units((400, 450)), signing=1000, reference=2),
        Said(units((400, 450)), signing=1000, reference=0),
    ]
    got = summary(clips)
    assert got == summary(clips[::-1])
    assert (got["latency/measured"], got["latency/left_out"]) == (2, 2)
    for name in ("al", "laal", "dal", "first"):
        assert (got[f"latency/consumed/{name}"], got[f"latency/elapsed/{name}"]) == (600, 675), name
    assert len(got) == 2 + 2 * 4
    assert summary(clips[1:2]) == {"latency/measured": 0, "latency/left_out": 1}
    assert summary([]) == {"latency/measured": 0, "latency/left_out": 0}


def test_an_update_waits_for_its_signing_and_for_the_one_before():
    # 100 + 50; its signing is there at 200, 250 = 200 + 50; then 300 + 300 = 600, for which 400 waits: 600 + 10.
    assert elapsed([100, 200, 300, 400], [50, 50, 300, 10]) == [150, 250, 600, 610]
    assert elapsed([], []) == []


def erased(*histories):
    return erasure(reversed(history) for history in histories)


def test_erasure():
    # From "a b c" to "a x": b and c are taken back, 2; to "a x y z": none. 2 of 4 that stand in the end.
    flicker = [["a"], ["a", "b", "c"], ["a", "x"], ["a", "x", "y", "z"]]
    assert erased(flicker) == 0.5
    # A change in front takes all behind it back: 3 of 3.
    assert erased([list("abc"), list("xbc")]) == 1
    assert erased(flicker, [["p"], ["p", "q"]], []) == 2 / 6
    assert erased([["a"], []]) is None
    assert erased() is None


def test_real_time_factor():
    assert real_time_factor([100, 300], [1000, 1000]) == 0.2


# -- what must hold


@pytest.fixture
def rng():
    return random.Random(0)


def test_who_waits_for_everything_lags_by_the_whole_source(rng):
    for _ in range(100):
        signing, reference = rng.uniform(500, 20000), rng.randint(1, 30)
        got = lags([signing] * rng.randint(1, 30), signing=signing, reference=reference)
        assert got == pytest.approx([signing] * 4)


@pytest.mark.parametrize("late", [0, 730])
def test_who_keeps_the_pace_lags_by_what_is_added(rng, late):
    for _ in range(100):
        signing, reference = rng.uniform(500, 20000), rng.randint(1, 30)
        delays = [i * signing / reference + late for i in range(reference)]
        assert lags(delays, signing=signing, reference=reference) == pytest.approx([late] * 4, abs=1e-6)


def test_a_constant_delay_is_added(rng):
    for _ in range(200):
        delays, reference = random_delays(rng, 12, 5000), rng.randint(1, 12)
        later = [delay + 321 for delay in delays]
        # Where the end is far, all units count in both; else for dal and first alone.
        far = [lags(each, signing=FAR, reference=reference) for each in (delays, later)]
        assert far[1] == pytest.approx([one + 321 for one in far[0]], rel=1e-9)
        near = [lags(each, signing=3000, reference=reference) for each in (delays, later)]
        assert near[1][2:] == pytest.approx([one + 321 for one in near[0][2:]])


def test_committing_later_lowers_nothing(rng):
    for _ in range(500):
        signing, reference = rng.uniform(2000, 6000), rng.randint(1, 12)
        delays = random_delays(rng, 12, 5000)
        # Later, and never past the one after it; al and laal where as many units come before the end.
        bounds = [*delays[1:], delays[-1] + 500]
        later = [rng.uniform(delay, bound) for delay, bound in zip(delays, bounds)]
        before, after = (lags(each, signing=signing, reference=reference) for each in (delays, later))
        assert after.dal >= before.dal - 1e-6 and after.first >= before.first
        if sum(delay < signing for delay in delays) == sum(delay < signing for delay in later):
            assert after.al >= before.al - 1e-6 and after.laal >= before.laal - 1e-6


def test_average_lagging_may_fall_where_a_unit_comes_later():
    # 1000 ms, ten units of 100 ms. 0 five times, 999 four times, 1000: lags 0, -100, .. -400, 499, 399, 299, 199, 100,
    # mean 49.6. With the sixth at 1000 (and all behind it) it ends the mean: 0, -100, .. -400, 500, mean -500 / 6.
    early = lags([0] * 5 + [999] * 4 + [1000], signing=1000, reference=10)
    late = lags([0] * 5 + [1000] * 5, signing=1000, reference=10)
    assert (early.al, late.al) == pytest.approx((49.6, -500 / 6))
    assert late.dal > early.dal


def test_with_computing_it_is_never_earlier(rng):
    for _ in range(200):
        consumed = random_delays(rng, 12, 5000)
        done = elapsed(consumed, [rng.choice((0, 40, 900)) for _ in consumed])
        assert all(a >= b for a, b in zip(done, consumed)) and done == sorted(done)
        said = [Said(units(*zip(consumed, done)), signing, reference=rng.randint(1, 12)) for signing in (3000, FAR)]
        near, far = (summary([one]) for one in said)
        for name in ("dal", "first"):
            assert near[f"latency/elapsed/{name}"] >= near[f"latency/consumed/{name}"] - 1e-6
        for name in ("al", "laal"):
            assert far[f"latency/elapsed/{name}"] >= far[f"latency/consumed/{name}"] - 1e-3


def test_text_that_only_grows_erases_nothing(rng):
    for _ in range(50):
        final = [rng.choice("ab") for _ in range(rng.randint(1, 9))]
        ends = sorted(rng.randint(0, len(final)) for _ in range(5))
        assert erased([final[:end] for end in (*ends, len(final))]) == 0


# -- a stream by sentences


def edit_distance(first, second):
    row = list(range(len(second) + 1))
    for i, word in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def cost(hypothesis, references, parts):
    return sum(edit_distance(reference, hypothesis[part]) for reference, part in zip(references, parts, strict=True))


def all_cuts(words, sentences):
    for inner in itertools.combinations_with_replacement(range(words + 1), sentences - 1):
        yield [slice(*ends) for ends in itertools.pairwise((0, *inner, words))]


def random_stream(rng, letters="abc", shortest=0):
    draw = lambda least, most: [rng.choice(letters) for _ in range(rng.randint(least, most))]  # noqa: E731
    return draw(shortest, 8), [draw(shortest, 4) for _ in range(rng.randint(1, 4))]


def test_no_cuts_cost_less(rng):
    for _ in range(400):
        hypothesis, references = random_stream(rng)
        parts = resegment(hypothesis, references)
        assert parts[0].start == 0 and parts[-1].stop == len(hypothesis)
        assert all(a.stop == b.start and a.start <= a.stop for a, b in itertools.pairwise(parts))
        least = min(cost(hypothesis, references, cuts) for cuts in all_cuts(len(hypothesis), len(references)))
        assert cost(hypothesis, references, parts) == least, (hypothesis, references, parts)


@pytest.mark.parametrize(
    ("hypothesis", "references", "parts"),
    [
        ("a b c d e", ["a b", "c d e"], ["a b", "c d e"]),
        ("A b c D e", ["a b", "c d e"], ["A b", "c D e"]),  # case does not count
        ("a b x c d", ["a b", "c d"], ["a b x", "c d"]),  # between two: with the first
        ("x a b y", ["a", "b"], ["x a", "b y"]),
        ("e f", ["a b", "c d", "e f"], ["", "", "e f"]),  # the first sentences get no word
        ("a b e f", ["a b", "c d", "e f"], ["a b", "", "e f"]),
        ("a b", ["a b", "", "e f"], ["a b", "", ""]),
        ("", ["a", "b"], ["", ""]),
        ("a b", [""], ["a b"]),
        ("Regen Schnee", ["Regen regen", "schnee"], ["Regen", "Schnee"]),
    ],
)
def test_where_a_stream_is_cut(hypothesis, references, parts):
    words = hypothesis.split()
    got = resegment(words, [reference.split() for reference in references])
    assert [" ".join(words[part]) for part in got] == parts


def test_equal_cuts_are_chosen_in_one_way():
    def cuts(hypothesis, *references):
        return ["".join(hypothesis[part]) for part in resegment(hypothesis, references)]

    # Read from the end: a word is deleted rather than paired, rather than inserted, and inserted rather than paired.
    assert cuts("axd", "ab", "cd") == ["ax", "d"]
    assert cuts("cb", "dd", "c") == ["cb", ""]
    assert cuts("dac", "c", "b") == ["dac", ""]
    assert cuts("caa", "c", "c") == ["c", "aa"]
    assert cuts("aa", "a", "a", "a") == ["a", "a", ""]


def test_a_long_stream_by_its_sentences():
    # Two sentences, 1000 to 3000 and 4000 to 5000 ms, and one that nobody heard.
    #   first: words at 2000, 3000 -> 1000, 2000 of 2000 ms, for 2: 1000 - 0, 2000 - 1000 -> 1000
    #   second: words at 4500, 5500 -> 500, 1500 of 1000 ms, for 1, laal by 2: 500 - 0, 1500 - 500 -> 750
    #           (al by 1: 500 - 0, 1500 - 1000 -> 500)
    # Every word stood there 100 ms later: the sums are 100 more.
    words = zip(("a", "b", "c", "x"), (2000, 3000, 4500, 5500))
    said = [Unit(word, time, time + 100) for word, time in words]
    sentences = [Sentence(["a", "b"], 1000, 3000), Sentence(["c"], 4000, 5000), Sentence(["e", "f"], 5000, 6000)]
    got = by_sentence(said, sentences)
    assert [len(one.units) for one in got] == [2, 1, 1]  # x stands for e or f rather than for nothing
    sentences[-1] = Sentence([], 5000, 6000)
    got = by_sentence(said, sentences)
    assert [(one.signing, one.reference) for one in got] == [(2000, 2), (1000, 1), (1000, 0)]
    numbers = summary(got)
    assert (numbers["latency/measured"], numbers["latency/left_out"]) == (2, 1)
    assert numbers["latency/consumed/laal"] == (1000 + 750) / 2
    assert numbers["latency/elapsed/laal"] == (1000 + 750) / 2 + 100
    assert numbers["latency/consumed/al"] == (1000 + 500) / 2
    assert summary(by_sentence([], sentences)) == {"latency/measured": 0, "latency/left_out": 3}


def test_one_sentence_is_a_clip(rng):
    for _ in range(50):
        delays = random_delays(rng, 12, 5000)
        sentence = Sentence(["y"] * rng.randint(1, 9), 0, 4000)
        said = units(*zip(delays, delays))
        assert summary(by_sentence(said, [sentence])) == summary([Said(said, 4000, len(sentence.units))])


# -- what others count


def test_simuleval_counts_the_same(rng):
    theirs = pytest.importorskip("simuleval.evaluator.scorers.latency_scorer", reason="SimulEval is not installed")
    scorers = theirs.ALScorer(), theirs.LAALScorer(), theirs.DALScorer()
    for _ in range(1000):
        signing, reference = rng.uniform(500, 6000), rng.randint(1, 12)
        delays = random_delays(rng, 12, rng.choice((4000, 9000)))
        clip = SimpleNamespace(delays=delays, source_length=signing, reference_length=reference, reference="")
        got = lags(delays, signing=signing, reference=reference)
        assert got[:3] == pytest.approx([scorer.compute(clip) for scorer in scorers])


def test_mweralign_cuts_alike(rng):
    """It never leaves the first sentence without a word, even where that costs more."""
    theirs = pytest.importorskip("mweralign.mweralign", reason="mweralign is not installed")
    same = 0
    for _ in range(1000):
        hypothesis, references = random_stream(rng, "abcD", shortest=1)
        lines = theirs.align_texts("\n".join(map(" ".join, references)), " ".join(hypothesis)).split("\n")
        got = resegment(hypothesis, references)
        if hypothesis[got[0]]:
            assert [hypothesis[part] for part in got] == [line.split() for line in lines]
            same += 1
    assert same > 800


def test_simulstream_counts_the_same(rng):
    pytest.importorskip("mweralign", reason="mweralign is not installed")
    theirs = pytest.importorskip(
        "simulstream.metrics.scorers.latency.stream_laal", reason="simulstream is not installed"
    )
    readers = pytest.importorskip("simulstream.metrics.readers")
    scorer = theirs.StreamLaal(argparse.Namespace(latency_unit="word"))
    for _ in range(300):
        hypothesis, references = random_stream(rng, shortest=1)
        hypothesis = [references[0][0], *hypothesis]  # the first sentence gets a word
        consumed = sorted(rng.uniform(0, 9) for _ in hypothesis)
        done = elapsed(consumed, [rng.uniform(0, 1) for _ in consumed])
        ends = sorted(rng.uniform(0, 9) for _ in range(2 * len(references)))
        sentences = [Sentence(*each) for each in zip(references, ends[::2], ends[1::2])]
        got = by_sentence([Unit(*each) for each in zip(hypothesis, consumed, done)], sentences)
        if not got[0].units:
            continue
        described = [
            readers.ReferenceSentenceDefinition(" ".join(one.units), one.begins, one.ends - one.begins)
            for one in sentences
        ]
        output = readers.OutputWithDelays(" ".join(hypothesis), consumed, done)
        score = scorer.score([SimpleNamespace(audio_name="", hypothesis=output, reference=described)])
        numbers = summary(got)
        assert numbers["latency/consumed/laal"] == pytest.approx(score.ideal_latency)
        assert numbers["latency/elapsed/laal"] == pytest.approx(score.computational_aware_latency)
