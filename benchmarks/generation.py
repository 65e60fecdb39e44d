"""What our ways to write text take beside transformers' generate, with the same weights and the same text.

    python -m benchmarks.generation [--pairs 10]

Beam search: 5 beams, 16 clips of 40 to 120 steps, the tiny text model of configs/translation.yaml, 30 units. Live text:
64 tokens, one after another, behind a prompt of 300, which is read anew in each turn; the tiny language model of
configs/prefix_lm.yaml. Both models are drawn, and both sides have to write the same. One thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.pairs import PAIRS, Row, Work, in_turn, tell
from signstream import cli
from signstream.config.prefix_lm import PrefixModel
from signstream.errors import UserError
from signstream.models.kv_window import KVWindow, Layout, Window
from signstream.models.live_lm import LiveLM
from signstream.models.prefix_sources import lm_of
from signstream.models.text_model import TextModel, transformers_package
from signstream.models.text_sources import tiny_model
from signstream.models.text_tokenizer import BEGIN, END, PAD
from signstream.tokens.llm import SINK, WORD
from signstream.tokens.vocabulary import Vocabulary

BEAMS, CLIPS, STEPS, UNITS = 5, 16, (40, 120), 30
PROMPT, TOKENS = 300, 64
FIRST = 10  # id of a text's token, behind those that mean something
TEXTS = ("the sun shines in the north", "rain comes in the morning", "a strong wind blows at night", "it stays dry")
PARTS, LEVELS, CODES = ("F", "LH", "RH", "B", "FB"), (3, 3, 3, 3, 3), 1024
OURS, THEIRS = "ours", "transformers' generate"


class Signing(NamedTuple):
    embeds: Tensor  # [B, T, D]
    mask: Tensor  # [B, T]


def their_beams(text: TextModel, signing: Signing) -> Tensor:
    """[B, U]"""
    settings = transformers_package().GenerationConfig(
        **{"num_beams": BEAMS, "max_new_tokens": UNITS, "do_sample": False, "early_stopping": False},
        **{"decoder_start_token_id": text.tokenizer.target_id, "forced_eos_token_id": END},
        **{"bos_token_id": BEGIN, "pad_token_id": PAD, "eos_token_id": END},
    )
    inputs = {"inputs_embeds": signing.embeds, "attention_mask": signing.mask.long()}
    return text.mbart.generate(**inputs, generation_config=settings)[:, 1:]


def beam_search() -> dict[str, Work]:
    text = tiny_model(TEXTS, source="en_XX", target="en_XX")
    lengths = torch.randint(STEPS[0], STEPS[1] + 1, (CLIPS,)).clamp_(max=STEPS[1])
    lengths[0] = STEPS[1]
    mask = torch.arange(STEPS[1]) < lengths[:, None]
    signing = Signing(torch.randn(CLIPS, STEPS[1], text.width) * mask[..., None], mask)
    made: dict[str, Work] = {
        OURS: lambda: text.generate(*signing, beams=BEAMS, max_new_tokens=UNITS).ids[:, 0],
        THEIRS: lambda: their_beams(text, signing),
    }
    alike(made)
    return made


@torch.inference_mode()
def our_tokens(model: LiveLM, prompt: Tensor) -> Tensor:
    """[1, S] -> [U]. Each as a Speaker reads it."""
    kept, said = KVWindow(model.decoder, model.window), []
    ids, kind = prompt, torch.full((PROMPT,), SINK)
    for _ in range(TOKENS):
        hidden = kept.step(model.embedded(ids), Layout(kind, torch.full_like(kind, -1)))
        said.append(int(model.logits(hidden[0, -1])[: model.offset].argmax()))
        ids, kind = torch.tensor([said[-1:]]), torch.tensor([WORD])
    return torch.tensor(said)


def their_tokens(model: LiveLM, prompt: Tensor) -> Tensor:
    settings = transformers_package().GenerationConfig(max_new_tokens=TOKENS, do_sample=False, pad_token_id=PAD)
    out = model.lm.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=settings)
    return out[0, PROMPT:]


def live_text() -> dict[str, Work]:
    lm = lm_of(PrefixModel(target_language="en_XX"), TEXTS, seed=0)
    vocabulary = Vocabulary(PARTS, LEVELS, CODES, lm.network.config.vocab_size)
    window = Window(sinks=PROMPT, chunks=1, entries=TOKENS, positions=PROMPT + TOKENS)
    model = LiveLM(lm, vocabulary, window=window).eval().requires_grad_(False)
    prompt = torch.randint(FIRST, model.offset, (1, PROMPT))
    made: dict[str, Work] = {
        OURS: lambda: our_tokens(model, prompt),
        THEIRS: lambda: their_tokens(model, prompt),
    }
    alike(made)
    return made


def alike(sides: dict[str, Work]) -> None:
    ours, theirs = (work() for work in sides.values())
    if not torch.equal(ours, theirs):  # type: ignore[arg-type]
        raise AssertionError("both sides are to write the same")


def measured(pairs: int) -> Iterator[Row]:
    torch.manual_seed(0)
    times = in_turn(beam_search(), pairs, clock=time.process_time)
    what = f"beam search of {BEAMS}, {CLIPS} clips, {UNITS} units, tiny text model"
    yield Row.of(what, times, ours=OURS, against=THEIRS, at_most=1)
    times = in_turn(live_text(), pairs, clock=time.process_time)
    what = f"live text, {TOKENS} tokens behind a prompt of {PROMPT}, tiny language model"
    yield Row.of(what, times, ours=OURS, against=THEIRS, at_least=1.3)


def rows() -> Iterator[Row]:
    try:
        yield from measured(PAIRS)
    except UserError as absent:
        print(absent, file=sys.stderr)


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--pairs", type=int, default=10)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    tell(measured(args.pairs))


if __name__ == "__main__":
    cli.run(main)
