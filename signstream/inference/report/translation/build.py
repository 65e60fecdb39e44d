"""The page of a translated split: how good it is beside what chance would have, and its worst and best sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from signstream.config.translation import TranslationConfig
from signstream.inference.clips import SplitClips
from signstream.inference.report.page import render_translation
from signstream.inference.report.translation.sentences import make_sentences, worst_and_best
from signstream.inference.translation.translator import Translator
from signstream.inference.translation.written import Result
from signstream.models.metrics.text import TextScores


def page_of(
    clips: SplitClips[Translator],
    results: Sequence[Result],
    scores: TextScores,
    *,
    config: TranslationConfig,
    report: Mapping[str, Any],
) -> str:
    """`report`: what --report holds, and what its controls are."""
    shown = worst_and_best(results, scores)
    translator = clips.reader
    about = {
        "name": config.experiment_name,
        "source": translator.source,
        "layers": translator.models[0].text.mbart.config.decoder_layers,
        "unknown": sum(result.clip.text is None for result in results),
        "pieces": scores.by_character,
    }
    return render_translation({**report, **about}, make_sentences(clips, shown, config.data, scores=scores))
