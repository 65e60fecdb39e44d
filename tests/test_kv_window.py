"""The window of a language model: a stream by any pieces is one pass under the mask, words that were thought leave
nothing, the stream moves back as if the prompt were said again, and hours keep no more than a minute."""

import random
import types

import pytest
import torch

from signstream.errors import UserError
from signstream.models.kv_window import SUMMARY, KVWindow, Layout, Window, read, window_mask
from signstream.tokens.llm import SIGN, SINK, WORD

transformers = pytest.importorskip("transformers")
WINDOW = Window(sinks=3, chunks=2, entries=6, positions=512, group=2, summary=2, reach=6)
SEEDS = pytest.mark.parametrize("seed", range(3))
WIDTH = 64

pytestmark = pytest.mark.usefixtures("one_thread")


def decoder_of(kind="Qwen2", attention="sdpa"):
    """Drawn wide, so that it matters who is seen and from how far."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = getattr(transformers, f"{kind}Config")(
        **sizes, num_key_value_heads=2, vocab_size=31, max_position_embeddings=512, attn_implementation=attention
    )
    lm = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(1)
    for name, weight in lm.named_parameters():
        if weight.ndim == 2:
            spread = 1.0 if "embed" in name else (2.0 if "q_proj" in name or "k_proj" in name else 1.0) / WIDTH**0.5
            weight.data.normal_(0, spread, generator=generator)
    return lm


@pytest.fixture(scope="module")
def lm():
    return decoder_of()


def laid(rows):
    kinds, chunks = zip(*rows)
    return Layout(torch.tensor(kinds), torch.tensor(chunks))


def cut(layout, begin, end):
    return Layout(layout.kind[begin:end], layout.chunk[begin:end])


def stream(seed, chunks=14, window=WINDOW):
    """A prompt, and chunks of 1 to 4 tokens with up to 2 words after them; some chunks bring nothing."""
    draw = random.Random(seed)
    rows, chunk = [(SINK, -1)] * window.sinks + [(WORD, -1)] * draw.randrange(2), 0
    while chunk < chunks:
        rows += [(SIGN, chunk)] * draw.randint(1, 4) + [(WORD, chunk)] * draw.randrange(3)
        if (chunk + 1) % window.group == 0 and draw.random() < 0.8:
            rows += [(SUMMARY, chunk)] * draw.randint(1, window.summary)
        chunk += draw.choice((1, 1, 1, 1, 2, 4))
    return laid(rows)


def embeds_of(layout, seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, len(layout.kind), WIDTH, generator=generator)


@torch.no_grad()
def one_pass(lm, embeds, mask, positions=None):
    positions = torch.arange(embeds.shape[1]) if positions is None else positions
    return lm.lm_head(read(lm.model, embeds, mask=mask, positions=positions))


def streamed(kept, lm, embeds, *, layout, cuts):
    """Logits [B, S, V], all that is said committed; never more kept than the window says."""
    heard = []
    for begin, end in zip((0, *cuts), (*cuts, len(layout.kind))):
        piece = cut(layout, begin, end)
        heard.append(lm.lm_head(kept.step(embeds[:, begin:end], piece)))
        kept.commit()
        assert kept.get_seq_length() == len(kept.positions) == len(kept.layout.kind) <= kept.window.bound
    return torch.cat(heard, 1)


def splits(layout, seed):
    """Token by token, chunk by chunk, whole, and anywhere."""
    size = len(layout.kind)
    chunks = (layout.chunk.diff() != 0).nonzero()[:, 0] + 1
    anywhere = sorted(random.Random(seed).sample(range(1, size), size // 5))
    return list(range(1, size)), chunks.tolist(), [], anywhere


def assert_equal(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


# -- the mask


def seen_by_hand(layout, window):
    """For each token the places of those that a list still holds, from which what leaves is struck out."""
    held, seen = [], []
    for place, (kind, chunk) in enumerate(zip(layout.kind.tolist(), layout.chunk.tolist())):
        lives = {SIGN: window.chunks, WORD: window.chunks, SUMMARY: window.reach}
        held = [(p, k, c) for p, k, c in held if k == SINK or c > chunk - lives[k]] + [(place, kind, chunk)]
        seen.append({p for p, _, _ in held})
    return seen


@SEEDS
def test_the_mask_is_what_a_list_would_hold(seed):
    layout = stream(seed, chunks=40)
    mask = window_mask(layout, WINDOW)
    assert [set(row.nonzero()[:, 0].tolist()) for row in mask] == seen_by_hand(layout, WINDOW)
    assert mask.sum(1).max() <= WINDOW.bound and bool(mask.diagonal().all())


def test_several_sequences_at_once(lm):
    """Each with a mask and positions of its own."""
    layouts = [cut(stream(seed), 0, 30) for seed in range(3)]
    embeds, positions = embeds_of(layouts[0], batch=3), torch.arange(30) * torch.arange(1, 4)[:, None]
    together = one_pass(lm, embeds, window_mask(Layout(*map(torch.stack, zip(*layouts))), WINDOW), positions)
    for row, layout in enumerate(layouts):
        alone = one_pass(lm, embeds[row : row + 1], window_mask(layout, WINDOW), positions[row])
        assert_equal(together[row], alone[0])


# -- a stream is one pass


@SEEDS
def test_a_stream_by_any_pieces_is_one_pass(lm, seed):
    layout = stream(seed)
    embeds, mask = embeds_of(layout), window_mask(layout, WINDOW)
    whole = one_pass(lm, embeds, mask)
    for cuts in splits(layout, seed):
        assert_equal(streamed(KVWindow(lm.model, WINDOW), lm, embeds, layout=layout, cuts=cuts), whole)
    assert (one_pass(lm, embeds, torch.ones_like(mask).tril()) - whole).abs().max() > 0.1, "the window matters"
    nearer = torch.arange(len(layout.kind)) - (layout.chunk >= 3).long()
    assert (one_pass(lm, embeds, mask, nearer) - whole).abs().max() > 0.01, "positions matter"


@pytest.mark.parametrize(
    ("kind", "attention"), [("Qwen2", "eager"), ("Llama", "sdpa"), ("Llama", "eager"), ("Qwen3", "sdpa")]
)
def test_other_models_and_attentions(kind, attention):
    lm, layout = decoder_of(kind, attention), stream(5)
    embeds = embeds_of(layout)
    kept = KVWindow(lm.model, WINDOW)
    ours = streamed(kept, lm, embeds, layout=layout, cuts=splits(layout, 5)[3])
    assert_equal(ours, one_pass(lm, embeds, window_mask(layout, WINDOW)))


def test_without_summaries_what_leaves_leaves_nothing(lm):
    window = Window(sinks=3, chunks=3, entries=6, positions=512)
    layout = stream(7)
    layout = Layout(*(column[layout.kind != SUMMARY] for column in layout))
    embeds = embeds_of(layout)
    kept = KVWindow(lm.model, window)
    ours = streamed(kept, lm, embeds, layout=layout, cuts=splits(layout, 7)[0])
    assert_equal(ours, one_pass(lm, embeds, window_mask(layout, window)))
    assert window.bound == 3 + 3 * 6


# -- words that were thought


@SEEDS
def test_words_that_were_taken_back_were_never_thought(lm, seed):
    """To the last digit, and though others are thought in every chunk."""
    layout, draw = stream(seed), random.Random(seed)
    embeds, cuts = embeds_of(layout), splits(layout, seed)[1]
    kept, never = KVWindow(lm.model, WINDOW), KVWindow(lm.model, WINDOW)
    for begin, end in zip((0, *cuts), (*cuts, len(layout.kind))):
        piece = cut(layout, begin, end)
        assert torch.equal(kept.step(embeds[:, begin:end], piece), never.step(embeds[:, begin:end], piece))
        chunk = int(piece.chunk[-1])
        room = WINDOW.entries - int((piece.kind != SUMMARY).sum() if chunk >= 0 else 1)
        for _ in range(draw.randrange(3)):
            for count in (1,) * draw.randint(1, max(room, 1)) if room > 0 else ():
                word = laid([(WORD, chunk)] * count)
                kept.step(embeds_of(word, draw.randrange(99)), word)
            kept.roll_back()
        assert all(torch.equal(a, b) for a, b in zip(kept.keys + kept.values, never.keys + never.values))
        assert torch.equal(kept.positions, never.positions) and kept.next == never.next


def test_a_commit_is_the_mark(lm):
    """Of five words the first two are said."""
    layout = laid([(SINK, -1), (SIGN, 0), (SIGN, 0), (WORD, 0), (WORD, 0), (SIGN, 1)])
    embeds = embeds_of(layout)
    kept = KVWindow(lm.model, WINDOW)
    said, last = cut(layout, 3, 5), cut(layout, 5, 6)
    kept.step(embeds[:, :3], cut(layout, 0, 3))
    kept.step(embeds[:, 3:5], said)
    kept.commit()
    kept.step(embeds_of(said, 9), said)
    with pytest.raises(AssertionError, match="commit"):
        kept.step(embeds[:, 5:], last)
    kept.roll_back()
    kept.roll_back()
    heard = lm.lm_head(kept.step(embeds[:, 5:], last))
    assert_equal(heard, one_pass(lm, embeds, window_mask(layout, WINDOW))[:, 5:])


# -- hours


@SEEDS
def test_moving_back_is_the_prompt_said_again(lm, seed):
    window = Window(**{**vars(WINDOW), "positions": WINDOW.span})
    layout = stream(seed, chunks=70)
    embeds, mask = embeds_of(layout), window_mask(layout, window)
    kept, heard, moved = KVWindow(lm.model, window), [], []  # how far before its place each token is written
    cuts = splits(layout, seed)[1]
    for begin, end in zip((0, *cuts), (*cuts, len(layout.kind))):
        heard.append(lm.lm_head(kept.step(embeds[:, begin:end], cut(layout, begin, end))))
        kept.commit()
        by = end - kept.next
        moved += [by] * (end - begin)
        places = mask[end - 1].nonzero()[:, 0]
        assert torch.equal(kept.positions, torch.where(places < 3, places, places - by))
        assert kept.next <= window.positions
    whole = torch.cat(heard, 1)
    for cuts in splits(layout, seed):
        assert_equal(streamed(KVWindow(lm.model, window), lm, embeds, layout=layout, cuts=cuts), whole)
    assert_equal(whole, said_again(lm, embeds, mask, moved))
    assert len(set(moved)) > 3, "it moved several times"


def said_again(lm, embeds, mask, moved):
    """One pass, where a copy of the prompt comes with each move: it is seen by itself and by what follows it."""
    source, after = [], []  # of each token of the long pass: which it is, and after which move
    for place, by in enumerate(moved):
        copies = [0, 1, 2] if after and by != after[-1] else []
        source += [*copies, place]
        after += [by] * (len(copies) + 1)
    source, after = torch.tensor(source), torch.tensor(after)
    sinks = source < 3
    own = ~sinks | (after[:, None] == after)
    positions = torch.where(sinks, source + after, source)
    logits = one_pass(lm, embeds[:, source], (mask[source[:, None], source] & own).tril(), positions)
    return logits[:, ~sinks | (after == 0)]


def hollow():
    """A decoder of one layer that keeps what it hears and computes nothing."""

    def forward(inputs_embeds, attention_mask, position_ids, use_cache, cache):
        assert attention_mask.shape[-1] == cache.get_seq_length() + inputs_embeds.shape[1]
        keys, _ = cache.update(inputs_embeds[:, None], inputs_embeds[:, None], 0)
        assert attention_mask.shape[-1] == keys.shape[2]
        return types.SimpleNamespace(last_hidden_state=inputs_embeds)

    config = types.SimpleNamespace(max_position_embeddings=4096)
    buffers = {"rotary_emb.inv_freq": torch.ones(2)}
    decoder = types.SimpleNamespace(forward=forward, config=config, named_buffers=buffers.items)
    return type("Hollow", (), {"__call__": staticmethod(forward), **vars(decoder)})()


def test_hours_keep_no_more_than_a_minute():
    """Full chunks, all summaries: the bound is reached soon and never passed."""
    window = Window(sinks=4, chunks=5, entries=4, positions=200, group=3, summary=2, reach=10)
    kept, sizes = KVWindow(hollow(), window), []
    prompt = laid([(SINK, -1)] * 4)
    kept.step(torch.zeros(1, 4, 4), prompt)
    for chunk in range(4000):
        rows = [(SIGN, chunk)] * 3 + [(WORD, chunk)] + [(SUMMARY, chunk)] * (2 if chunk % 3 == 2 else 0)
        kept.step(torch.zeros(1, len(rows), 4), laid(rows))
        sizes.append(sum(each.untyped_storage().nbytes() // 16 for each in kept.keys + kept.values) // 2)
        assert sizes[-1] == len(kept.positions) and kept.next <= 200
    assert max(sizes) == max(sizes[:20]) == window.bound == 4 + 5 * 4 + 2 * 4
    assert sizes[30:33] * 1300 == sizes[30:3930], "flat, from one group to the next"


# -- what cannot be


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chunks": 0}, "the window's chunks is 0: at least 1"),
        ({"reach": 2}, "stay for 2 chunks, no longer than the window's 2"),
        ({"group": 3}, "of 3 chunks would hear no more than the window's 2"),
        ({"positions": 50}, "needs 51 positions and has 50: take fewer chunks"),
    ],
)
def test_a_window_that_cannot_be(change, said):
    with pytest.raises(UserError, match=said):
        Window(**{**vars(WINDOW), **change})


def test_a_model_that_does_not_fit(lm):
    with pytest.raises(UserError, match="600 positions and the language model 512"):
        KVWindow(lm.model, Window(**{**vars(WINDOW), "positions": 600}))
    other = types.SimpleNamespace(max_position_embeddings=512, _attn_implementation="flash_attention_2")
    with pytest.raises(UserError, match="attn_implementation"):
        KVWindow(types.SimpleNamespace(config=other), WINDOW)


@pytest.mark.parametrize(
    ("rows", "error", "said"),
    [
        ([(SINK, -1)] * 4, UserError, "prompt has 4 tokens, and the window is made for 3"),
        ([(SIGN, 0)] * 6 + [(WORD, 0)], UserError, "said in it have 7 tokens, and the window is made for 6"),
        ([(SIGN, 1)] + [(SUMMARY, 1)] * 3, UserError, "summary has 3 tokens"),
        ([(SIGN, 0), (SUMMARY, 0)], AssertionError, "ends a group"),
        ([(SIGN, 0), (SINK, 0)], AssertionError, "first"),
        ([(SIGN, 1), (SIGN, 0)], AssertionError, "order"),
        ([(SIGN, 0), (WORD, 1)], AssertionError, "last chunk that was heard"),
    ],
)
def test_a_stream_that_cannot_be(rows, error, said):
    with pytest.raises(error, match=said):
        KVWindow(hollow(), WINDOW).step(torch.zeros(1, len(rows), 4), laid(rows))
