"""The contrast of signing and sentences: similarity and loss against sums written out, a step against its pieces."""

import math

import pytest
import torch

from sentences import GERMAN, SENTENCES
from signstream.config.translation import EncoderModel
from signstream.models import contrast as module
from signstream.models.contrast import ContrastModel, Embedded, contrast, joined, similarity
from signstream.models.sign_encoder import Reads, sign_encoder
from signstream.models.text_sources import TinySizes, tiny_model
from signstream.training.distributed import Ranks

POINTS = 5
DRAW = 7


def model(match="pooled", dropout=0.0):
    sizes = EncoderModel(width=16, depth=1, heads=2, dropout=dropout, drop_path=dropout)
    text = tiny_model(SENTENCES, TinySizes(width=16, layers=1, heads=2, positions=64), **GERMAN)
    return ContrastModel(sign_encoder(sizes, Reads("keypoints", (POINTS,)), 0), text, embedding=8, match=match)


def embedded(lengths, seed, width=6, longest=None):
    """Unit vectors, ragged, and noise where nothing is."""
    generator = torch.Generator().manual_seed(seed)
    longest = longest or max(lengths)
    vectors = torch.randn(len(lengths), longest, width, generator=generator, dtype=torch.float64)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return Embedded(torch.nn.functional.normalize(vectors, dim=-1), mask)


def by_hand(signing, text):
    """Pair after pair, of the vectors that there are."""
    rows = []
    for steps, there in zip(*signing):
        row = []
        for words, real in zip(*text):
            products = steps[there] @ words[real].T
            row.append((products.amax(1).mean() + products.amax(0).mean()) / 2)
        rows.append(torch.stack(row))
    return torch.stack(rows)


RAGGED = {"tokens": ([4, 1, 3, 2, 4], [2, 3, 1, 2, 1]), "pooled": ([1] * 5, [1] * 5)}


@pytest.mark.parametrize("match", RAGGED)
def test_similarity_is_the_mean_of_the_best_either_way(match):
    signing, text = (embedded(lengths, seed) for seed, lengths in enumerate(RAGGED[match]))
    found = similarity(signing, text)
    torch.testing.assert_close(found, by_hand(signing, text))
    if match == "pooled":
        torch.testing.assert_close(found, signing.vectors[:, 0] @ text.vectors[:, 0].T)


def test_pieces_of_similarity_are_the_whole_and_so_is_their_gradient(monkeypatch):
    signing, text = (embedded(lengths, seed) for seed, lengths in enumerate(RAGGED["tokens"]))
    weights, found = torch.randn(5, 5, dtype=torch.float64), []
    for piece in (1 << 24, 30, 1):
        monkeypatch.setattr(module, "PIECE", piece)
        leaves = [side.vectors.clone().requires_grad_() for side in (signing, text)]
        whole = similarity(Embedded(leaves[0], signing.mask), Embedded(leaves[1], text.mask))
        found.append((whole, *torch.autograd.grad((whole * weights).sum(), leaves)))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def paid(logits, right):
    """What a row pays: the mean over what is right, less the least that it can be."""
    shares = logits.exp() / logits.exp().sum()
    return -sum(shares[j].log() for j in right) / len(right) - math.log(len(right))


@pytest.mark.parametrize("sentence", [[0, 1, 2, 3], [0, 1, 0, 0], [2, 2, 2, 2]])
def test_the_loss_is_cross_entropy_both_ways_against_even_shares(sentence):
    generator = torch.Generator().manual_seed(0)
    found, scale = torch.randn(4, 4, generator=generator, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)
    number = torch.tensor(sentence)
    shares = contrast(found, scale, number[:, None] == number)
    for i in range(4):
        right = [j for j in range(4) if sentence[j] == sentence[i]]
        wanted = (paid(3 * found[i], right) + paid(3 * found[:, i], right)) / 2
        assert float(shares[i]) == pytest.approx(float(wanted))


def test_while_a_sentence_has_one_embedding_it_does_not_matter_how_many_clips_it_is_right_for():
    """The sum over a step differs by a constant, so its gradient does not."""
    sentence, generator = torch.tensor([0, 1, 0, 2, 0, 1]), torch.Generator().manual_seed(0)
    texts = torch.randn(3, 8, generator=generator)[sentence]
    grads = []
    for meaning in (sentence, torch.arange(6)):
        signing = torch.randn(6, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        words = texts.clone().requires_grad_()
        contrast(signing @ words.T, torch.tensor(2.0), meaning[:, None] == meaning).sum().backward()
        of_texts = torch.zeros(3, 8).index_add_(0, sentence, words.grad)  # one embedding a sentence
        grads.append(torch.cat((signing.grad, of_texts)))
    torch.testing.assert_close(grads[0], grads[1])
    assert grads[0].abs().max() > 0.1


def test_the_best_is_nothing_to_pay_however_often_a_sentence_comes():
    number = torch.tensor([0, 1, 0])
    same = number[:, None] == number
    assert contrast(same.double() * 2 - 1, torch.tensor(50.0), same).abs().max() < 1e-12


def test_one_clip_alone_pays_nothing_and_moves_nothing():
    found = torch.tensor([[0.3]], requires_grad=True)
    shares = contrast(found, torch.tensor(14.0), torch.ones(1, 1, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(shares.sum(), found)
    assert shares.item() == 0 and gradient.item() == 0


# -- the model


def streams(lengths, longest=None, fill=0.0, seed=0):
    points = torch.full((len(lengths), longest or max(lengths), POINTS, 3), fill)
    for row, length in zip(points, lengths):
        generator = torch.Generator().manual_seed(seed + length)
        row[:length] = torch.rand(length, POINTS, 3, generator=generator) + 0.1
    return {"keypoints": points}, torch.tensor(lengths)


def read(net, sentences, longer=0):
    encoded = net.text.tokenizer.encode(sentences)
    ids = torch.nn.functional.pad(encoded.ids, (0, longer), value=1)
    return net.read(ids, torch.nn.functional.pad(encoded.mask, (0, longer)))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("match", ["pooled", "tokens"])
def test_padding_changes_nothing(match, training):
    """Of clips and of sentences, NaN included; what is dropped in training, neither."""
    net = model(match, dropout=0.2).train(training)
    short = net(*streams([9, 5]), read(net, SENTENCES[:2]), draw=DRAW)
    long = net(*streams([9, 5], longest=14, fill=float("nan")), read(net, SENTENCES[:2], longer=6), draw=DRAW)
    torch.testing.assert_close(similarity(*long), similarity(*short), rtol=1e-5, atol=1e-6)
    gradients = []
    for pair in (short, long):
        net.zero_grad()
        similarity(*pair)[0].sum().backward()
        gradients.append({name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_pooled_is_one_vector_of_all_units_and_words_are_words_alone():
    net = model("pooled")
    encoded = net.text.tokenizer.encode(SENTENCES[:1])
    x = net.text.read(encoded.ids, encoded.mask)
    torch.testing.assert_close(read(net, SENTENCES[:1]).vectors[0, 0], x[0].mean(0))
    words = read(model("tokens"), SENTENCES[:1])
    assert words.mask.tolist() == [[True] * (x.shape[1] - 2) + [False] * 2]
    torch.testing.assert_close(words.vectors[0, :-2], x[0, :-2])


def test_a_sentence_without_a_word_has_its_special_units():
    net = model("tokens")
    ids = torch.tensor([[2, net.text.tokenizer.target_id]])
    assert net.read(ids, torch.ones_like(ids, dtype=torch.bool)).mask.all()


def test_the_scale_is_no_more_than_a_hundred():
    net = model()
    assert net.scale().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        net.heads.log_scale.fill_(9.0)
    assert net.scale().item() == pytest.approx(100)


def test_what_is_kept_has_no_frozen_weight():
    net = model()
    assert all(name.startswith(("encoder.", "heads.")) for name in net.state_dict())
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained <= set(net.state_dict()) and not any(name.startswith("text.") for name in trained)


def test_rows_of_several_lengths_are_joined():
    parts = [embedded([2, 1], 0), embedded([3], 1)]
    whole = joined(parts)
    assert whole.vectors.shape == (3, 3, 6) and whole.mask.sum(1).tolist() == [2, 1, 3]
    assert Ranks().gather(whole.vectors).shape == (3, 3, 6)
