"""A training step, by hand, for whatever task there is; and all of it that lasts, so that a stopped run goes on bit
for bit.

    loop = Loop(task, config, ranks, clips=16)   # clips: as many as this process reads at once (auto_batch)
    for raw in loop.loader:                      # what is left of an epoch
        loop.step(raw)
    loop.state_dict() -> plain values and tensors -> loop.load_state_dict(state)

Read `Loop.step` from top to bottom: that is a step. Whatever is drawn at random comes from (seed, epoch, step), never
from how often something ran.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Any

import torch
from torch import Tensor

from signstream.config import Base, Train, to_dict
from signstream.errors import UserError
from signstream.training import optim
from signstream.training.distributed import Ranks
from signstream.training.fits import check_fits
from signstream.training.precision import autocast
from signstream.training.task import Findings, Progress, Task


class Diverged(UserError):
    """Training cannot go on; the message says what to change."""


class Loop:
    def __init__(self, task: Task, config: Base, ranks: Ranks, *, clips: int) -> None:
        train = config.train
        self.task, self.config, self.ranks = task, config, ranks
        self.micro, self.accumulate = optim.accumulation(train, clips, ranks.world)
        task.micro, task.accumulate = self.micro, self.accumulate
        loader = task.loader("train", self.micro * self.accumulate, train=True)
        assert loader is not None, "a task without a training split does not open"
        self.loader = loader
        self.val_loader = task.loader("val", self.micro, train=False)
        self.optimizer = optim.build_optimizer(task.groups(), train, ranks.world)
        self.scaler = grad_scaler(train.amp == "fp16" and ranks.device.type == "cuda")
        self.watch = Watch()
        self.steps = 0  # that are done
        self.best = float("inf")  # the lowest score of a validation
        self.waited = 0  # validations since that one
        self.lr = 0.0  # of the last step, as are:
        self.norm = 0.0
        self.counted = 0  # what the task's batches count, on this rank
        self.after: dict[str, float] = {}  # what the task has to say after it
        self.window_totals = task.terms.zeros(ranks.device)  # since the last line
        self.window_counts = task.terms.zeros(ranks.device)

    @property
    def progress(self) -> Progress:
        return Progress(self.steps, self.total_steps, self.loader.epoch, self.config.train.epochs)

    @property
    def total_steps(self) -> int:
        clips_a_step = self.micro * self.accumulate * self.ranks.world
        return self.config.train.epochs * -(-len(self.loader.clips) // clips_a_step)

    # -- one step

    def step(self, raw: Any, stop: bool = False) -> bool:
        """One optimiser step; whether any rank was asked to stop."""
        task, progress = self.task, self.progress
        task.model.train()
        batches = [task.prepare(small, progress, train=True) for small in task.split(raw, self.micro)]
        if task.before_step(batches, progress):
            self.watch.forget()
        counts, stop = self._shared_counts(batches, stop)
        totals, after = self.forward_backward(batches, counts, progress)
        self.ranks.sum_(totals)
        self.watch.see(float(task.terms.value(totals, counts)), self.steps)
        self.optimise()
        self.after = task.after_step(after, progress)
        self.steps += 1
        self.counted = sum(len(batch) for batch in batches)
        self.window_totals += totals
        self.window_counts += counts
        return stop

    def _shared_counts(self, batches: list[Any], stop: bool) -> tuple[Tensor, bool]:
        """[R, G] over all micro-batches and ranks, and whether any rank was asked to stop, by one all-reduce."""
        counts = torch.stack([self.task.counts(batch) for batch in batches]).sum(0)
        shared = torch.cat((counts.flatten(), counts.new_tensor([float(stop)])))
        self.ranks.sum_(shared)
        return shared[:-1].view_as(counts), bool(shared[-1] > 0)

    def forward_backward(self, batches: list[Any], counts: Tensor, progress: Progress) -> tuple[Tensor, Any]:
        """One micro-batch after another: the sums of their losses [R, G], and of what after_step needs. Nothing here
        waits for the device."""
        totals, after = self.task.terms.zeros(self.ranks.device), None
        for batch in batches:
            with autocast(self.config.train.amp, self.ranks.device):
                loss = self.task.loss(batch, progress)
            self.scaler.scale(self.task.terms.value(loss.totals, counts)).backward()
            totals += loss.totals.detach().double()
            after = loss.after if after is None else after + loss.after
        return totals, after

    def optimise(self) -> None:
        train, parameters = self.config.train, list(self.task.model.parameters())
        optim.sum_gradients(parameters, self.ranks)
        self.scaler.unscale_(self.optimizer)  # after the sum, so that an overflow on one rank is every rank's
        norm = torch.nn.utils.clip_grad_norm_(parameters, train.clip_norm or float("inf"))
        self.norm = float(norm)
        if not self.scaler.is_enabled() and not self.norm < float("inf"):
            raise Diverged(not_finite("gradient", self.norm, self.steps))
        self.lr = optim.learning_rate(self.steps, self.total_steps, train, world=self.ranks.world)
        optim.set_rate(self.optimizer, self.lr)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def take_window(self) -> dict[str, float]:
        """The means since the last call."""
        numbers = self.task.terms.named(self.window_totals, self.window_counts)
        self.window_totals.zero_()
        self.window_counts.zero_()
        return numbers

    def validate(self, health: bool) -> Findings:
        assert self.val_loader is not None
        return self.task.validate(self.val_loader, self.progress, health)

    def test(self, split: str) -> Findings | None:
        """None: the split has no clip."""
        loader = self.task.loader(split, self.micro, train=False)
        return None if loader is None else self.task.test(loader, self.progress)

    def better(self, score: float | None) -> bool:
        """Whether a validation's score is the best so far, which it then is."""
        self.waited += score is not None
        if score is None or not score < self.best:
            return False
        self.best, self.waited = score, 0
        return True

    # -- all that lasts

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.steps,
            "epoch": self.loader.epoch,
            "best": self.best,
            "waited": self.waited,
            "config": to_dict(self.config),
            "model": self.task.model.state_dict(),
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loader": self.loader.state_dict(),
            "watch": self.watch.state_dict(),
            "terms": list(self.task.terms.names),
            "window": [self.window_totals.cpu(), self.window_counts.cpu()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        moved = [tuple(weight.shape) for group in self.optimizer.param_groups for weight in group["params"]]
        check_fits(state, self.state_dict(), moved)
        self.task.model.load_state_dict(state["model"])
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty in a checkpoint of bf16 or fp32
            self.scaler.load_state_dict(state["scaler"])
        self.loader.load_state_dict(state["loader"])
        self.watch.load_state_dict(state["watch"])
        self.steps, self.best, self.waited = state["step"], state["best"], state["waited"]
        if state["terms"] == list(self.task.terms.names):  # else the run goes on with other terms
            self.window_totals, self.window_counts = (part.to(self.ranks.device) for part in state["window"])


class Watch:
    """Ends a run that cannot recover. Every rank sees the same losses, so every rank ends."""

    MEMORY = 200  # steps whose median is the usual loss
    SPIKE = 10.0  # times that: a spike
    SPIKES_TO_END = 20  # in a row

    def __init__(self) -> None:
        self.recent = deque[float](maxlen=self.MEMORY)
        self.spikes = 0

    def see(self, loss: float, step: int) -> None:
        if not abs(loss) < float("inf"):
            raise Diverged(not_finite("loss", loss, step))
        usual = median(self.recent) if len(self.recent) >= self.MEMORY // 4 else float("inf")
        self.spikes = self.spikes + 1 if loss > self.SPIKE * usual else 0
        if self.spikes >= self.SPIKES_TO_END:
            raise Diverged(
                f"the loss is {loss:.3g} at step {step}, for {self.spikes} steps more than {self.SPIKE:g} times its "
                f"median {usual:.3g}: training diverged. Lower train.lr or train.clip_norm; --checkpoint auto goes on "
                "from the last checkpoint"
            )
        self.recent.append(loss)

    def forget(self) -> None:
        self.recent.clear()

    def state_dict(self) -> dict[str, Any]:
        return {"recent": list(self.recent), "spikes": self.spikes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.recent = deque(state["recent"], maxlen=self.MEMORY)
        self.spikes = state["spikes"]


def not_finite(what: str, value: float, step: int) -> str:
    return (
        f"the {what} is {value} at step {step}: lower train.lr or raise train.warmup_steps; with amp fp16, try bf16 or "
        "fp32. The last checkpoint is from before; go on from it with --checkpoint auto"
    )


def grad_scaler(enabled: bool) -> Any:
    """torch 2.1 keeps it under torch.cuda.amp, newer ones under torch.amp."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)


def auto_batch(task: Task, config: Base, ranks: Ranks) -> int:
    """Clips that a process reads at once: as the config says, or as many as fit its GPU, found by trying the largest;
    without a GPU a whole step's."""
    train: Train = config.train
    if train.batch_size != "auto":
        return train.batch_size
    if ranks.device.type != "cuda":
        return train.clips_per_step

    def try_batch(clips: int) -> None:
        """A whole step of the largest clips lies ready, one micro-batch goes through the model."""
        loop = Loop(task, config, ranks, clips=clips)
        trained = [parameter for group in task.groups() for parameter in group.parameters]
        moments = [torch.empty_like(parameter) for parameter in trained for _ in range(2)]  # AdamW's
        ended = Progress(loop.total_steps, loop.total_steps, train.epochs, train.epochs)  # when all that is trained is
        # One clip more, and a tenth more of the step: what is drawn at random makes clips longer and shorter.
        raw = task.largest(max(loop.micro * loop.accumulate * 11 // 10, clips + 1))
        batches = [task.prepare(small, ended, train=True) for small in task.split(raw, clips + 1)]
        loop.forward_backward(batches[:1], task.counts(batches[0]), ended)
        del moments
        loop.optimizer.zero_grad(set_to_none=True)

    return min(ranks.collect(optim.largest_batch(try_batch, train.clips_per_step)))
