"""A loop in its folder: epochs, signals, lines, journals, validation, the checkpoints that are kept, and going on
after a stop.

    config, checkpoint -> train -> <save_path>/<experiment_name>/<time>/: config.yaml, train.log, metrics.jsonl,
    samples/, last.pt, best.pt, ...

It knows no task: what there is to say of a validation, the task says in its Findings.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from signstream import registry
from signstream.config import Base, check_names, load_config, to_dict
from signstream.errors import UserError, first_line
from signstream.io.whole import write_whole
from signstream.pictures.figure import figure_pixels, save_figure
from signstream.training import checkpoint, seed
from signstream.training.distributed import Ranks, start
from signstream.training.environment import environment, launcher_note
from signstream.training.loop import Loop, auto_batch
from signstream.training.run_folder import RunFolder, find, newest_of
from signstream.training.speed import Timer, memory_used, progress_line
from signstream.training.task import Findings, Task
from signstream.training.utils_tb import Journal, open_journals
from signstream.training.utils_wandb import WandbJournal, check_wandb

# of the data section, when a run goes on: where the data lie; that they are the same, their digest says
FREE_TO_CHANGE = ("cache", "workers", "root", "split_file", "meta_dir", "keypoints", "tokens", "more_tokens")


class Stop:
    """Which signal asked for an end, 0 while none did. The second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.signal = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self)

    def __call__(self, number: int, _frame: object) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number


class Run:
    """What a loop says, and when it saves. `journals`: rank 0's, none on the others."""

    def __init__(self, loop: Loop, folder: RunFolder, journals: Sequence[Journal | WandbJournal]) -> None:
        self.loop, self.folder, self.journals, self.ranks = loop, folder, journals, loop.ranks
        self.train_config = loop.config.train
        self.log = folder.open_log() if loop.ranks.is_main else None
        self.status: list[str] = []

    def say(self, line: str) -> None:
        if self.log is not None:
            print(line, flush=True)
            self.log.write(line + "\n")

    def train(self, stop: Stop) -> bool:
        """True if it came to its end, False if it was asked to stop."""
        loop, timer = self.loop, Timer()
        while not self.ended:
            epoch, asked = loop.loader.epoch + 1, False
            for raw in timer.waiting(loop.loader):
                asked = loop.step(raw, bool(stop.signal))
                timer.step(loop.counted)
                if loop.steps % self.train_config.log_every == 0 or loop.steps == loop.total_steps:
                    self.tell_step(timer, epoch)
                if asked and not loop.loader.epoch_done:
                    self.save()
                    return False
            self.end_epoch(epoch)  # also when asked to stop: a checkpoint from between would have it written twice
            timer.reset()
            if asked and not self.ended:
                return False
        return True

    @property
    def ended(self) -> bool:
        """All epochs are done, or the last `patience` validations brought nothing better."""
        patience = self.train_config.patience
        return self.loop.loader.epoch >= self.train_config.epochs or (
            patience is not None and self.loop.waited >= patience
        )

    def close(self) -> None:
        for journal in self.journals:
            journal.close()
        if self.log is not None:
            self.log.close()

    def tell_step(self, timer: Timer, epoch: int) -> None:
        loop, unit = self.loop, self.loop.task.unit
        speed, memory = timer.take(), memory_used(self.ranks.device)
        losses = loop.take_window()
        times = {"ms": speed.ms, "data_ms": speed.waited_ms, f"{unit}_per_s": speed.per_second, "memory_bytes": memory}
        for journal in self.journals:
            numbers = losses | {"lr": loop.lr, "gradient_norm": loop.norm} | loop.after
            journal.numbers(loop.steps, "train", numbers, epoch=epoch)
            journal.speed(loop.steps, times)
        self.say(
            progress_line(
                loop.steps,
                loop.total_steps,
                losses={name: value for name, value in losses.items() if "/" not in name},
                status=self.status,
                lr=loop.lr,
                speed=speed,
                unit=unit,
                memory=memory,
            )
        )

    def end_epoch(self, epoch: int) -> None:
        train, last = self.train_config, epoch == self.train_config.epochs
        if self.loop.val_loader is not None and (epoch % train.eval_every == 0 or last):
            findings = self.loop.validate(health=epoch % train.health_every == 0 or last)
            self.tell_validation(epoch, findings)
            if self.loop.better(findings.score):
                self.save("best")
        if epoch % train.save_every == 0:
            self.save("epoch", epoch)
        self.save()

    def tell_validation(self, epoch: int, findings: Findings) -> None:
        self.status = findings.status or self.status
        if not self.ranks.is_main:
            return
        step, samples = self.loop.steps, self.folder.samples
        first, *others = findings.lines
        self.say(f"epoch {epoch}: {first}")
        for line in others:
            self.say(f"  {line}")
        images = {name: torch.from_numpy(figure_pixels(it)).permute(2, 0, 1) for name, it in findings.figures.items()}
        for journal in self.journals:
            journal.numbers(step, "val", findings.numbers, epoch=epoch)
            for name, values in findings.histograms.items():
                journal.histogram(step, name, values)
            for name, text in findings.texts.items():
                journal.text(step, name, text.replace("\n", "  \n"))
            for name, image in images.items():
                journal.image(step, name, image)
            for name, gif in findings.animations.items():
                journal.animation(step, f"{name}_animation", gif)
        samples.mkdir(exist_ok=True)
        for name, text in findings.texts.items():
            path = samples / f"{name}_epoch_{epoch:04d}.txt"
            path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        for name, figure in findings.figures.items():
            save_figure(figure, samples / f"{name}_{step:07d}.png")
        for name, gif in findings.animations.items():
            (samples / f"{name}_{step:07d}.gif").write_bytes(gif)

    def test(self) -> None:
        """The best checkpoint on the splits that training had no eye on; what they say goes to the log and the
        metrics, and changes nothing."""
        loop = self.loop
        path = self.ranks.from_main(lambda: self.folder.best if self.folder.best.exists() else self.folder.last)
        state = checkpoint.load(path)
        loop.task.model.load_state_dict(state["model"])
        loop.task.load_state_dict(state["task"])
        for split in loop.task.test_splits():
            findings = loop.test(split)
            if findings is None:
                self.say(f"{split}: the data has no such clip")
                continue
            first, *others = findings.lines
            self.say(f"{split}, {path.name} of epoch {state['epoch']}: {first.removeprefix('validation ')}")
            for line in others:
                self.say(f"  {line}")
            for journal in self.journals:
                journal.numbers(loop.steps, split, findings.numbers, epoch=state["epoch"])

    def save(self, kind: str = "last", epoch: int = 0) -> None:
        for journal in self.journals:
            journal.sync()
        generators = self.ranks.collect(seed.generator_states())
        path = {"last": self.folder.last, "best": self.folder.best, "epoch": self.folder.epoch(epoch)}[kind]

        def write() -> None:
            state = self.loop.state_dict()
            checkpoint.save({**state, "generators": generators}, path)
            for name, part in (self.loop.task.beside_best() if kind == "best" else {}).items():
                checkpoint.save({"step": state["step"], "config": state["config"], **part}, self.folder.path / name)

        self.ranks.from_main(write)
        if kind == "epoch" and self.ranks.is_main:
            self.folder.prune(self.train_config.keep)


def train(file: str | None, overrides: Sequence[str], going_on: str | None) -> int:
    """The exit status. `file`: the config's; without one a checkpoint's own config is used, or the defaults, with the
    overrides on top. `going_on`: a checkpoint, a run's folder or "auto"."""
    path = find(going_on) if going_on not in (None, "auto") else None
    state = checkpoint.load(path) if path else None
    config = load_config(file, overrides, checkpoint.config_of(state) if state else None)
    with start(config.train.device, config.train.threads) as ranks:
        stop = Stop()  # not before: who waits for other ranks has nothing to save
        # torchrun says which ranks were begun anew, and where there are several machines it need not say it to all
        if path is None and ranks.any(going_on == "auto"):
            path = ranks.from_main(lambda: newest_of(Path(config.save_path) / config.experiment_name))
            state = checkpoint.load(path) if path else None
            config = load_config(None, overrides, checkpoint.config_of(state)) if state and not file else config
        if state is not None:
            check_names(config)
            saved = checkpoint.config_of(state)
            checkpoint.check_same(config, saved, free=FREE_TO_CHANGE, why="a run goes on with what it began with")
            registry.find("task", config.task).check_state(config, state)
        ranks.from_main(lambda: check_wandb(config))
        seed.seed_everything(config.train.seed, ranks.rank)
        task = registry.find("task", config.task).open(config, ranks)
        folder = RunFolder(path.parent if path else ranks.from_main(lambda: new_folder(config)))
        run = open_run(task, config, ranks, folder=folder, state=state)
        try:
            begin(run, state, path)
            ended = run.train(stop)
            if ended and config.train.test_best:
                run.test()
            best = f", best {folder.best}" if folder.best.exists() else ""
            run.say(f"{'done' if ended else 'stopped, saved'}: step {run.loop.steps}, {folder.last}{best}")
        finally:
            run.close()
        return 0 if ended else 128 + (stop.signal or signal.SIGTERM)


def new_folder(config: Base) -> Path:
    return RunFolder.create(config.save_path, config.experiment_name).path


def open_run(task: Task, config: Base, ranks: Ranks, *, folder: RunFolder, state: dict[str, Any] | None) -> Run:
    """Of a new run also config.yaml, environment.json and skipped.jsonl."""
    loop = Loop(task, config, ranks, clips=auto_batch(task, config, ranks))
    journals: list[Journal | WandbJournal] = []

    def prepare_folder() -> None:
        journals.extend(open_journals(folder, config, state["step"] if state else None))
        folder.sweep()
        if state is None:
            folder.describe(config, environment(ranks.device, ranks.world, config.train.seed))
            lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in task.skipped()]
            content = "".join(lines).encode(errors="backslashreplace")
            write_whole(folder.skipped, lambda file: file.write(content))

    ranks.from_main(prepare_folder)
    return Run(loop, folder, journals)


def begin(run: Run, state: dict[str, Any] | None, path: str | Path | None) -> None:
    """The first lines, and what the first step needs: constants of a new run, or all that lasted of one that goes
    on."""
    loop, ranks = run.loop, run.ranks
    if note := launcher_note():
        run.say(note)
    processes = f"{ranks.world} process{'es' * (ranks.world > 1)}"
    run.say(f"run: {run.folder.path}; {processes} on {ranks.device}, {ranks.threads} threads each")
    *lines, model = loop.task.describe()
    for line in lines:
        run.say(line)
    run.say(
        f"{model}; a step is {ranks.world} x {loop.accumulate} x {loop.micro} clips, "
        f"{loop.total_steps} steps in {run.train_config.epochs} epochs"
    )
    if state is None:
        loop.task.begin()
        return
    go_on(loop, state, path)
    run.say(f"going on from {path}, step {loop.steps}")
    given, kept = to_dict(loop.config), to_dict(checkpoint.config_of(state))
    for section in ("train", "loss"):
        for difference in checkpoint.differences(given.get(section, {}), kept.get(section, {}), section):
            run.say(f"note: {difference}")


def go_on(loop: Loop, state: dict[str, Any], path: str | Path | None) -> None:
    """All that lasted of a run, into a new loop."""
    try:
        loop.load_state_dict(state)
        if len(state["generators"]) == loop.ranks.world:
            seed.restore_generators(state["generators"][loop.ranks.rank])
    except UserError:
        raise
    except Exception as error:  # the values are somebody's, so taking them over may fail in any way
        fault = f"{type(error).__name__}, {first_line(error)}"
        raise UserError(f"{path} is no checkpoint of such a run: {fault}") from error
