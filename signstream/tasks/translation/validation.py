"""One pass over a split, on all ranks: what each clip is translated to, held against its sentence.

    score = measure(setup, loader)      # Score: losses, scores (BLEU, chrF, ROUGE-L), some clips' sentences

The references are the data set's sentences as they stand there, however long: never what units make of them. Every rank
makes the same calls.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from signstream.io.batch import StreamBatch
from signstream.io.dataloader_utils import BatchLoader
from signstream.models.metrics.text import TextScores
from signstream.models.text_model import decoder_inputs
from signstream.tasks.translation.batch import TranslationBatch
from signstream.tasks.translation.setup import Setup


class Sample(NamedTuple):
    reference: str
    translation: str


class Score(NamedTuple):
    losses: dict[str, float]  # without smoothing
    scores: dict[str, float]
    variants: dict[str, str]  # what the scores are to be quoted with
    samples: dict[str, Sample]  # by the clip's name


@torch.no_grad()
def measure(setup: Setup, loader: BatchLoader[StreamBatch]) -> Score:
    shown = set(loader.clips[: setup.config.train.sample_clips])
    terms, device = setup.losses.terms, setup.ranks.device
    totals, counts = terms.zeros(device), terms.zeros(device)
    scores = TextScores(setup.config.model.target_language, device)
    samples: dict[str, Sample] = {}
    setup.model.eval()
    for raw in loader:
        batch = setup.batch(raw, train=False)
        if not len(batch):
            continue
        clips = batch.clips
        said = setup.model(clips.streams, clips.lengths, decoder_inputs(batch.labels))
        totals += setup.losses.totals(said, batch, smoothing=0).double()
        counts += setup.losses.counts(batch)
        sentences = translated(setup, batch)
        scores.add(clips.texts, sentences)
        for clip, reference, sentence in zip(clips.index, clips.texts, sentences):
            if clip in shown:
                samples[setup.sequences.examples[clip].name] = Sample(reference, sentence)
    setup.model.train()
    for sums in (totals, counts, scores.flat):
        setup.ranks.sum_(sums)
    collected = {name: sample for part in setup.ranks.collect(samples) for name, sample in part.items()}
    losses = terms.named(totals, counts)
    return Score(losses, scores.result(), scores.variants(), dict(sorted(collected.items())))


def translated(setup: Setup, batch: TranslationBatch) -> list[str]:
    decode = setup.config.decode
    found = setup.model.generate(
        batch.clips.streams,
        batch.clips.lengths,
        beams=decode.beams,
        max_new_tokens=decode.max_tokens,
        length_penalty=decode.length_penalty,
    )
    return setup.model.text.tokenizer.texts(found.ids[:, 0])
