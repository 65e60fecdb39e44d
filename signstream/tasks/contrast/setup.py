"""What the contrast's training stands on: clips with sentences, what a frozen text model says of these, a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from signstream.config.translation import ContrastConfig
from signstream.data.sentences import SentenceBatch, open_sentences, sentence_batch
from signstream.data.sequences import Sequences
from signstream.io.batch import StreamBatch
from signstream.models.contrast import ContrastModel, Embedded, Pair
from signstream.models.ctc_path import within
from signstream.models.sign_encoder import Reads, sign_encoder
from signstream.models.text_sources import text_of
from signstream.models.text_tokenizer import tidy
from signstream.training.distributed import Ranks

MOST_KEPT = 1 << 28  # numbers that are kept of sentences: 1 GB


@dataclass(frozen=True)
class ContrastBatch:
    signs: SentenceBatch
    read: Embedded  # [B, K, W] what the text model says of their sentences
    sentence: Tensor  # [B] int64 on the CPU: the same number, the same sentence

    def __len__(self) -> int:
        return len(self.signs)


class Setup:
    def __init__(self, config: ContrastConfig, sequences: Sequences, ranks: Ranks) -> None:
        self.config, self.sequences, self.ranks = config, sequences, ranks
        sizes, seed = config.model, config.train.seed
        sentences = [sequences.examples[clip].text for clip in sequences.clips_of("train")]
        text = text_of(sizes, sentences, seed=seed)
        self.reads = Reads.of(config.data.source, sequences)
        model = ContrastModel(
            sign_encoder(sizes.encoder, self.reads, seed),
            text,
            embedding=sizes.embedding,
            temperature=sizes.temperature,
            match=sizes.match,
            seed=seed,
        )
        self.text_digest = text.frozen_digest()  # it takes seconds of a large one, and nothing changes it
        self.model: ContrastModel = model.to(ranks.device)
        self.sentences = Sentences(self.model, sequences, most=config.data.max_tokens, device=ranks.device)

    @classmethod
    def open(cls, config: ContrastConfig, ranks: Ranks) -> Setup:
        return cls(config, open_sentences(config.data, quiet=not ranks.is_main), ranks)

    def batch(self, raw: StreamBatch, *, train: bool) -> ContrastBatch:
        """On the device, augmented if it is to be trained on."""
        signs = sentence_batch(self.sequences, raw.to(self.ranks.device), train=train)
        return ContrastBatch(signs, self.sentences.read(raw.index), self.sentences.numbers(raw.index))

    def embedded(self, batch: ContrastBatch) -> Pair:
        if not len(batch):
            size = self.config.model.embedding
            none = Embedded(batch.read.vectors.new_zeros(0, 1, size), batch.read.mask.new_zeros(0, 1))
            return Pair(none, none)
        signs = batch.signs
        return self.model(signs.streams, signs.lengths, batch.read, draw=signs.draw)


class Sentences:
    """The sentences of a data set. The text model is asked about each of them once, and about each alone, so that what
    it says does not depend, to the last bit, on which came together."""

    def __init__(self, model: ContrastModel, sequences: Sequences, *, most: int, device: torch.device) -> None:
        self.model, self.device = model, device
        used = [clip for clips in sequences.splits.values() for clip in clips]
        texts = {clip: tidy(sequences.examples[clip].text) for clip in used}
        self.texts = list(dict.fromkeys(texts.values()))
        number = {text: number for number, text in enumerate(self.texts)}
        self.number = {clip: number[text] for clip, text in texts.items()}
        self.encoded = model.text.tokenizer.encode(self.texts, most=most)
        self.kept: dict[int, Tensor] = {}  # [K, W] on the CPU
        self.room = MOST_KEPT

    def numbers(self, clips: Sequence[int]) -> Tensor:
        return torch.tensor([self.number[clip] for clip in clips], dtype=torch.int64)

    def read(self, clips: Sequence[int]) -> Embedded:
        """[B, K, W] on the device."""
        rows = [self._row(self.number[clip]) for clip in clips]
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        vectors = pad_sequence(rows, batch_first=True) if rows else torch.zeros(0, 1, self.model.text.width)
        mask = within(lengths, vectors.shape[1])
        return Embedded(vectors.to(self.device, non_blocking=True), mask.to(self.device, non_blocking=True))

    def _row(self, number: int) -> Tensor:
        if number in self.kept:
            return self.kept[number]
        mask = self.encoded.mask[number]
        ids = self.encoded.ids[number][mask][None].to(self.device)
        read = self.model.read(ids, torch.ones_like(ids, dtype=torch.bool))
        row = read.vectors[read.mask].cpu()
        if row.numel() <= self.room:
            self.kept[number] = row
            self.room -= row.numel()
        return row
