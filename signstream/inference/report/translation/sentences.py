"""The sentences that a translator's page shows: the worst and the best, each with its clip and with where the decoder
looked when it said each word.

    shown = worst_and_best(results, scores)
    make_sentences(clips, shown, data, scores=scores)    -> {"clips": [...], "fps": ..., "parts": [...]}, for JSON

Sentences are ordered by chrF, each by itself. A word's attention is that of its units, averaged, over the encoder's
steps: little-endian int16 in base64, 32000 times the weight, a row a word. Of glosses a step is one of them; there is
no skeleton then.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from signstream.config.translation import SentenceData
from signstream.inference.clips import SplitClips
from signstream.inference.report.looks import Looks, open_looks
from signstream.inference.report.player_data import SPAN, shares
from signstream.inference.translation.translator import Translator
from signstream.inference.translation.written import Result
from signstream.models.metrics import wer
from signstream.models.metrics.text import TextScores

EACH = 10  # worst, and as many best
MOST_FRAMES = 5000  # of all clips together: the page stays under 5 MB
AT_ONCE = 4  # clips whose attention is taken together: all heads of all layers are kept until their mean is


class Shown(NamedTuple):
    result: Result
    score: float  # chrF
    best: bool  # or among the worst


class Word(NamedTuple):
    text: str
    steps: Tensor  # [S'] float32: its attention


def worst_and_best(results: Sequence[Result], scores: TextScores) -> list[Shown]:
    """Of clips whose sentence is known: the worst, the worst first, then the best, the best first; none twice."""
    known = [(result, result.clip.text) for result in results if result.clip.text is not None]
    rated = [Shown(result, scores.chrf_of(text, result.best[0].text), best=False) for result, text in known]
    rated.sort(key=lambda shown: shown.score)
    worst = rated[: min(EACH, (len(rated) + 1) // 2)]
    best = rated[len(worst) :][::-1][:EACH]
    return [*worst, *(shown._replace(best=True) for shown in best)]


def make_sentences(
    clips: SplitClips[Translator], shown: Sequence[Shown], data: SentenceData, *, scores: TextScores
) -> dict[str, Any]:
    looks = None if clips.reader.source == "glosses" else open_looks(clips, data)
    lengths = [each.result.clip.frames for each in shown]
    frames = lengths if looks is None else shares(lengths, MOST_FRAMES)
    attended = words_of(clips, [each.result for each in shown], apart=scores.by_character)
    return {
        "fps": clips.timing.fps,
        "joints": clips.reader.skeleton.num_joints,
        "parts": looks.parts() if looks is not None else [],
        "frames_per_step": clips.timing.frames / clips.timing.steps,
        "blank": "" if scores.by_character else " ",
        "clips": [
            {
                **_sentence(each, scores),
                **_attention(clips, each.result.number, words=attended[each.result.number], frames=count),
                **_seen(each.result, looks, frames=count),
            }
            for each, count in zip(shown, frames)
        ],
    }


def words_of(clips: SplitClips[Translator], results: Sequence[Result], *, apart: bool) -> dict[int, list[Word]]:
    """By the clip's number, what was said of it, with its attention; nothing, where nothing was said."""
    translator = clips.reader
    said = {result.number: result.units for result in results if result.units}
    found: dict[int, list[Word]] = {result.number: [] for result in results}
    for numbers, padded in clips.batches(list(said), most=AT_ONCE):
        weights = translator.attention(padded, [said[number] for number in numbers])
        for number, rows in zip(numbers, weights):
            words = translator.tokenizer.words(said[number], apart=apart)
            found[number] = [Word(word.text, rows[list(word.places)].mean(0)) for word in words]
    return found


def _sentence(shown: Shown, scores: TextScores) -> dict[str, Any]:
    clip, said = shown.result.clip, shown.result.best[0]
    meant = clip.text or ""
    return {
        "name": clip.name,
        "signer": clip.signer,
        "best": shown.best,
        "chrf": round(shown.score, 2),
        "meant": meant,
        "said": said.text,
        "log": round(said.score, 3),
        "pairs": [list(pair) for pair in wer.align(scores.units(meant), scores.units(said.text))],
    }


def _attention(clips: SplitClips[Translator], number: int, *, words: Sequence[Word], frames: int) -> dict[str, Any]:
    """Over the steps that begin in the frames that are shown."""
    clip = clips.all[number]
    steps = int(clips.reader.models[0].encoder.steps(torch.tensor([clip.steps])))
    steps = sum(clips.timing.span((step, step), clip.frames).first < frames for step in range(steps))
    rows = np.array([word.steps[:steps].numpy() for word in words]).reshape(len(words), steps)
    whole = np.rint(SPAN * rows).astype("<i2")
    looks = base64.b64encode(whole.tobytes()).decode()
    return {"words": [word.text for word in words], "steps": steps, "looks": looks}


def _seen(result: Result, looks: Looks | None, *, frames: int) -> dict[str, Any]:
    clip = result.clip
    about = {"frames": frames, "cut": frames < clip.frames}
    if looks is None:
        return {**about, "glosses": list(clip.words or ())}
    return {**about, **looks.whole(result.number, frames)}
