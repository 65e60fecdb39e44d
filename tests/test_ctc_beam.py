import itertools
import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor

from signstream.config import load_config
from signstream.config.recognition import RecognitionConfig
from signstream.errors import UserError
from signstream.models.ctc_beam import Hypothesis, beam_search, greedy
from signstream.models.ctc_path import best_path, spans

NEVER = -math.inf


def emissions(*shape: int, seed: int = 0, spread: float = 2.0, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (drawn * spread).log_softmax(-1).to(dtype)


def spelled(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(gloss for gloss, _ in itertools.groupby(path) if gloss)


def all_paths(log_probs: Tensor) -> dict[tuple[int, ...], dict[tuple[int, ...], float]]:
    """[S, V] -> {line: {path that spells it: its log-probability}}."""
    table, lines = log_probs.tolist(), defaultdict(dict)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(table)):
        lines[spelled(path)][path] = sum(row[gloss] for row, gloss in zip(table, path))
    return lines


def joined(*log_probs: float) -> float:
    most = max(log_probs)
    return most if most == NEVER else most + math.log(sum(math.exp(each - most) for each in log_probs))


def plain_search(log_probs: Tensor, beam: int) -> list[tuple[tuple[int, ...], float]]:
    """[S, V] -> the beams, by dictionaries of prefixes."""
    beams = {(): (0.0, NEVER)}  # prefix: paths that end in a blank, and in its last gloss
    for row in log_probs.tolist():
        found = defaultdict(lambda: (NEVER, NEVER))
        for prefix, (blank, gloss) in beams.items():
            total = joined(blank, gloss)
            found[prefix] = joined(found[prefix][0], total + row[0]), found[prefix][1]
            for i, now in enumerate(row[1:], 1):
                if prefix[-1:] == (i,):
                    found[prefix] = found[prefix][0], joined(found[prefix][1], gloss + now)
                longer, paths = (*prefix, i), blank if prefix[-1:] == (i,) else total
                found[longer] = found[longer][0], joined(found[longer][1], paths + now)
        beams = dict(sorted(found.items(), key=lambda item: -joined(*item[1]))[:beam])
    return [(prefix, joined(*sums)) for prefix, sums in beams.items()]


def steps_of(path: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    runs = [(gloss, [step for step, _ in run]) for gloss, run in itertools.groupby(enumerate(path), lambda at: at[1])]
    return tuple((run[0], run[-1]) for gloss, run in runs if gloss)


def assert_same_lines(a: list[Hypothesis], b: list[Hypothesis], tolerance: float = 1e-9) -> None:
    assert [(one.ids, one.steps) for one in a] == [(one.ids, one.steps) for one in b]
    for one, other in zip(a, b):
        assert one.score == pytest.approx(other.score, abs=tolerance)
        assert one.confidence == pytest.approx(other.confidence, abs=tolerance)


@pytest.mark.parametrize(
    ("glosses", "dtype"), [(2, torch.float64), (3, torch.float64), (4, torch.float64), (4, torch.float32)]
)
def test_a_wide_beam_finds_what_all_paths_together_say(glosses, dtype):
    log_probs, lengths = emissions(4, 6, glosses, seed=glosses, dtype=dtype), torch.tensor([6, 4, 1, 0])
    wide = sum((glosses - 1) ** length for length in range(7))  # all the prefixes that there are
    found = beam_search(log_probs, lengths, beam=wide, skip_blank=None, best=wide)
    for clip, length, hypotheses in zip(log_probs, lengths.tolist(), found):
        lines = all_paths(clip[:length])
        assert {one.ids for one in hypotheses} == set(lines) and len(hypotheses) == len(lines)
        scores = [one.score for one in hypotheses]
        assert scores == sorted(scores, reverse=True)
        for one in hypotheses:
            paths = lines[one.ids]
            assert one.score == pytest.approx(joined(*paths.values()), abs=1e-9 if dtype == torch.float64 else 1e-5)
            assert one.steps == steps_of(max(paths, key=lambda path: paths[path]))
            sure = [clip[first : last + 1, i].exp().mean() for i, (first, last) in zip(one.ids, one.steps)]
            assert one.confidence == pytest.approx([float(mean) for mean in sure], abs=1e-6)


@pytest.mark.parametrize(("glosses", "beam"), [(30, 4), (30, 1), (5, 3), (2, 2), (4, 7)])
def test_a_narrow_beam_is_the_plain_search_by_prefixes(glosses, beam):
    log_probs, lengths = emissions(12, 25, glosses, seed=beam, spread=1.5), torch.arange(14, 26)
    found = beam_search(log_probs, lengths, beam=beam, skip_blank=None, best=beam)
    for clip, length, hypotheses in zip(log_probs, lengths.tolist(), found):
        for one, (prefix, score) in zip(hypotheses, plain_search(clip[:length], beam), strict=True):
            assert one.ids == prefix and one.score == pytest.approx(score, abs=1e-9)


def test_the_likeliest_gloss_may_be_the_last_one_once_more():
    """Then the next but one is added: the K likeliest glosses of a step are one too few for K beams."""
    log_probs = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.7, 0.3, 0.0, 0.0], [0.05, 0.45, 0.4, 0.1]]).log()
    ((one,),) = beam_search(log_probs[None], torch.tensor([3]), beam=1, skip_blank=None)
    assert one.ids == (1, 2) == plain_search(log_probs, 1)[0][0]


def sure_path(seed: int, *, clips: int = 16, steps: int = 30, glosses: int = 6) -> Tensor:
    """Emissions that have hardly a doubt, of paths where glosses last, follow themselves and touch."""
    generator = torch.Generator().manual_seed(seed)
    path = torch.randint(0, glosses, (clips, steps), generator=generator).repeat_interleave(2, 1)[:, :steps]
    path = path * (torch.rand(clips, steps, generator=generator) < 0.7)
    return (
        torch.randn(clips, steps, glosses, generator=generator).double() + 9 * torch.eye(glosses)[path]
    ).log_softmax(-1)


def test_a_beam_of_one_is_greedy_where_nothing_is_in_doubt():
    log_probs, lengths = sure_path(0), torch.arange(15, 31)
    best = greedy(log_probs, lengths)
    for one, (other,) in zip(best, beam_search(log_probs, lengths, beam=1), strict=True):
        assert (one.ids, one.steps) == (other.ids, other.steps) and one.score <= other.score
        assert one.confidence == pytest.approx(other.confidence)
    assert any(a == b for one in best for a, b in itertools.pairwise(one.ids)), "no gloss follows itself"


def test_greedy_is_the_best_gloss_of_each_step():
    log_probs, lengths = emissions(8, 20, 4, seed=3), torch.tensor([20, 19, 11, 7, 2, 1, 1, 0])
    for clip, length, one in zip(log_probs, lengths.tolist(), greedy(log_probs, lengths)):
        path = tuple(clip[:length].argmax(1).tolist())
        assert one.ids == spelled(path) and one.steps == steps_of(path)
        assert one.score == pytest.approx(float(clip[:length].amax(1).sum()))
        means = [float(clip[first : last + 1, i].exp().mean()) for i, (first, last) in zip(one.ids, one.steps)]
        assert one.confidence == pytest.approx(means)


@pytest.mark.parametrize("filling", [math.nan, math.inf, 0.0, NEVER])
def test_what_lies_behind_the_end_changes_nothing(filling):
    log_probs, lengths = emissions(6, 24, 9, seed=5), torch.tensor([24, 17, 9, 1, 0, 20])
    behind = torch.arange(24) >= lengths[:, None]
    filled = log_probs.masked_fill(behind[..., None], filling)
    longer = torch.cat((filled, torch.full((6, 3, 9), filling)), 1)
    batch = beam_search(log_probs, lengths, best=3)
    for other in (beam_search(filled, lengths, best=3), beam_search(longer, lengths, best=3)):
        for a, b in zip(batch, other, strict=True):
            assert_same_lines(a, b)
    assert_same_lines(greedy(log_probs, lengths), greedy(longer, lengths))
    for clip, length, hypotheses in zip(log_probs, lengths, batch):  # alone
        assert_same_lines(beam_search(clip[None, :length], length[None], best=3)[0], hypotheses)


def test_empty_clips_and_short_ones():
    (nothing,), (short,), (still,) = beam_search(
        torch.tensor([[[0.1, 0.2, 0.7]], [[0.1, 0.2, 0.7]], [[0.96, 0.02, 0.02]]]).log(), torch.tensor([0, 1, 1])
    )
    assert nothing == Hypothesis((), 0.0, (), ())
    assert short.ids == (2,) and short.steps == ((0, 0),) and short.confidence == pytest.approx([0.7])
    assert still.ids == () and still.score == pytest.approx(math.log(0.96))
    without_steps, without_clips = torch.zeros(2, 0, 5), torch.zeros(0, 4, 5)
    none = torch.zeros(2, dtype=torch.int64)
    assert beam_search(without_steps, none, best=5) == [[nothing], [nothing]]
    assert greedy(without_steps, none) == [nothing, nothing]
    assert beam_search(without_clips, none[:0]) == [] == greedy(without_clips, none[:0])


def test_a_diverged_model_gives_a_line_all_the_same():
    lost = torch.full((2, 4, 3), math.nan), torch.tensor([4, 2])
    assert [len(clip) for clip in beam_search(*lost, best=3)] == [1, 1] and len(greedy(*lost)) == 2


def test_skipped_steps_count_as_blanks():
    """Searching what is left gives what the search gives where the blank was certain there."""
    log_probs, lengths = sure_path(1, steps=40), torch.arange(25, 41)
    skipped = log_probs[..., 0] > math.log(0.95)
    assert 0.2 < skipped.double().mean() < 0.8
    certain = torch.where(skipped[..., None] & (torch.arange(6) > 0), NEVER, log_probs)
    for a, b in zip(beam_search(log_probs, lengths, best=4), beam_search(certain, lengths, skip_blank=1.0, best=4)):
        assert_same_lines(a, b)
    twice = torch.tensor([[[0.04, 0.96], [0.97, 0.03], [0.98, 0.02], [0.04, 0.96], [0.96, 0.04]]]).log()
    ((one,),) = beam_search(twice, torch.tensor([5]))
    assert one.ids == (1, 1) and one.steps == ((0, 0), (3, 3))


def test_skipping_can_be_left_off():
    doubtful = torch.tensor([[[0.96, 0.04]] * 30]).log()  # together the glosses are likelier than none
    lines = [beam_search(doubtful, torch.tensor([30]), skip_blank=skip)[0][0].ids for skip in (0.95, 1.0, None)]
    assert lines == [(), (1,), (1,)]


def test_no_step_is_skipped_whose_likeliest_is_a_gloss():
    """So no threshold that a config may name leaves a line empty that has such a step."""
    least = load_config(None, ["task=recognition", "decode.skip_blank=0.5"], kind=RecognitionConfig).decode.skip_blank
    step = torch.tensor([[[0.49, 0.51]]]).log(), torch.tensor([1])
    assert [beam_search(*step, skip_blank=skip)[0][0].ids for skip in (least, 0.48)] == [(1,), ()]
    for below in (0, 0.49):
        with pytest.raises(UserError, match=rf"decode.skip_blank is {below}[.0]*: from 0.5 to 1 is expected"):
            load_config(None, ["task=recognition", f"decode.skip_blank={below}"], kind=RecognitionConfig)


def test_half_precision_is_searched_in_float32():
    log_probs, lengths = emissions(4, 30, 8, seed=9).bfloat16(), torch.tensor([30, 30, 12, 5])
    for a, b in zip(beam_search(log_probs, lengths, best=2), beam_search(log_probs.float(), lengths, best=2)):
        assert_same_lines(a, b)


def test_the_best_path_of_a_given_line():
    log_probs, lengths = emissions(4, 6, 3, seed=11), torch.tensor([6, 6, 5, 4])
    units = torch.tensor([[1, 2, 1], [2, 2, 0], [1, 1, 2], [0, 0, 0]])
    owner = best_path(log_probs, lengths, units)
    times = spans(log_probs, units, owner)
    for row, length in enumerate(lengths.tolist()):
        line = tuple(i for i in units[row].tolist() if i)
        paths = all_paths(log_probs[row, :length])[line]
        expected = steps_of(max(paths, key=lambda path: paths[path]))
        assert tuple(zip(times.first[row].tolist(), times.last[row].tolist()))[: len(line)] == expected
        assert (owner[row, length:] == -1).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_the_same():
    log_probs, lengths = emissions(16, 60, 50, seed=13), torch.arange(45, 61)
    for a, b in zip(beam_search(log_probs, lengths, best=5), beam_search(log_probs.cuda(), lengths, best=5)):
        assert_same_lines(a, b)
    assert_same_lines(greedy(log_probs, lengths), greedy(log_probs.cuda(), lengths))
