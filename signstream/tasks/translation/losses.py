"""What training minimises, summed over units of sentences and divided by their number in the whole step:

    L = sentence + ctc_weight * ctc

`sentence` is the cross entropy of each unit, smoothed by `loss.smoothing` in training and never in validation; padding
counts nothing. `ctc`, if there is one, is of the glosses, at the encoder's own steps, by gloss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from signstream.config.translation import TranslationLoss
from signstream.models.ctc_path import ctc_cost
from signstream.models.text_tokenizer import IGNORED
from signstream.models.translation import Said
from signstream.tasks.translation.batch import TranslationBatch
from signstream.training.task import Terms


class Losses:
    def __init__(self, loss: TranslationLoss, device: torch.device | str = "cpu") -> None:
        self.smoothing = loss.smoothing
        weights = {"sentence": 1.0, **({"ctc": loss.ctc} if loss.ctc else {})}
        self.terms = Terms(tuple(weights), ("all",), torch.tensor([[weight] for weight in weights.values()]).to(device))

    def counts(self, batch: TranslationBatch) -> Tensor:
        """[R, 1]"""
        numbers = [batch.units, sum(batch.glosses)][: len(self.terms.names)]
        return torch.tensor(numbers, dtype=torch.float64)[:, None].to(self.terms.weights.device, non_blocking=True)

    def totals(self, said: Said, batch: TranslationBatch, *, smoothing: float) -> Tensor:
        """[R, 1]"""
        logits, labels = said.logits.float().flatten(0, 1), batch.labels.flatten()  # [B * U, V], [B * U]
        rows = [
            F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing),
        ]
        if said.glosses is not None:
            rows.append(ctc_cost(said.glosses, batch.targets, steps=batch.steps, units=batch.glosses))
        return torch.stack(rows)[:, None]
