"""What training minimises: CTC, summed over clips and divided by the glosses of the whole step, so that a long sentence
counts as its words do and neither batches nor ranks change anything.

    L = ctc + smoothing * smooth

`smooth` is what keeps the steps' probabilities from being certain too soon: the divergence of even probabilities from
them, divided by the steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from signstream.config.recognition import RecognitionLoss
from signstream.data.sequences import SequenceBatch
from signstream.models.ctc_path import ctc_cost
from signstream.models.recognition import Emissions
from signstream.training.task import Terms


class Losses:
    def __init__(self, loss: RecognitionLoss, device: torch.device | str = "cpu") -> None:
        weights = {"ctc": 1.0, **({"smooth": loss.smoothing} if loss.smoothing else {})}
        self.terms = Terms(tuple(weights), ("all",), torch.tensor([[weight] for weight in weights.values()]).to(device))

    def counts(self, batch: SequenceBatch, steps: Tensor) -> Tensor:
        """[R, 1]; steps [B] of the emissions."""
        numbers = [sum(batch.units), int(steps.sum())][: len(self.terms.names)]
        return torch.tensor(numbers, dtype=torch.float64)[:, None].to(self.terms.weights.device, non_blocking=True)

    def totals(self, emissions: Emissions, batch: SequenceBatch, steps: Tensor) -> Tensor:
        """[R, 1]; steps [B] of the emissions, on the CPU."""
        log_probs = emissions.log_probs  # [B, S', V]
        rows = [ctc_cost(log_probs, batch.targets, steps=steps, units=batch.units)]
        if len(self.terms.names) > 1:
            uneven = -log_probs.mean(-1) - math.log(log_probs.shape[-1])  # [B, S']
            inside = torch.arange(uneven.shape[1], device=uneven.device) < emissions.lengths[:, None]
            rows.append(torch.where(inside, uneven, 0.0).sum())
        return torch.stack(rows)[:, None]
