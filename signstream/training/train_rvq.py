"""Trains a tokenizer: one process, or many under torchrun or `accelerate launch`, the same file.

    python -m signstream.training.train_rvq --config configs/default.yaml data.root=DIR
    torchrun --nproc_per_node=4 -m signstream.training.train_rvq --config configs/default.yaml
    python -m signstream.training.train_rvq --config configs/default.yaml --checkpoint auto     # goes on where the newest run stopped

Everything lies in <save_path>/<experiment_name>/<time>/. SIGTERM and Ctrl-C save and leave.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from signstream import cli, registry
from signstream.config import Config, from_dict, load_config

if TYPE_CHECKING:
    from signstream.training.checkpoint import RunFolder
    from signstream.training.distributed import Ranks
    from signstream.training.loop import Loop
    from signstream.training.utils_tb import Both, Journal, NoJournal

FREE_TO_CHANGE = ("cache", "workers", "root")  # of the data section, when a run goes on


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
    """A loop in its folder: what it says, and when it saves."""

    def __init__(self, loop: Loop, folder: RunFolder, journal: Journal | Both | NoJournal, ranks: Ranks) -> None:
        self.loop, self.folder, self.journal, self.ranks, self.config = loop, folder, journal, ranks, loop.config
        self.log = folder.open_log() if ranks.is_main else None
        self.health: dict[str, float] = {}

    def say(self, text: str) -> None:
        if self.log is not None:
            print(text, flush=True)
            self.log.write(text + "\n")

    def train(self, stop: Stop) -> bool:
        """True if it came to its end, False if it was asked to stop."""
        from signstream.training.utils_tb import Timer

        loop, timer = self.loop, Timer()
        while loop.epoch < self.config.train.epochs:
            number, asked = loop.epoch + 1, False
            for clips in timer.waiting(loop.loader):
                asked = loop.train_step(clips, bool(stop.signal))
                timer.step(loop.chunks_done)
                if loop.step % self.config.train.log_every == 0 or loop.step == loop.total_steps:
                    self._log(timer, number)
                if asked and not loop.epoch_done:
                    self._save()
                    return False
            self._end_epoch(number)  # also when asked to stop: a checkpoint from between would have it written twice
            timer.reset()
            if asked and loop.epoch < self.config.train.epochs:
                return False
        return True

    def close(self) -> None:
        self.journal.close()
        if self.log is not None:
            self.log.close()

    def _log(self, timer, epoch: int) -> None:
        from signstream.training.utils_tb import memory_used, progress_line

        loop, speed, memory = self.loop, timer.take(), memory_used(self.ranks.device)
        numbers = loop.take_window()
        self.journal.numbers(
            loop.step,
            epoch,
            "train",
            numbers | {"lr": loop.lr, "gradient_norm": float(loop.norm), "revived": loop.revived},
        )
        self.journal.speed(
            loop.step,
            {"ms": speed.ms, "data_ms": speed.waited_ms, "chunks_per_s": speed.chunks_per_s, "memory_bytes": memory},
        )
        shown = {name: value for name, value in numbers.items() if "/" not in name}
        self.say(
            progress_line(
                loop.step,
                loop.total_steps,
                shown,
                loop.lr,
                speed,
                memory,
                self.health.get("entropy_bits"),
                self.health.get("dead"),
            )
        )

    def _end_epoch(self, epoch: int) -> None:
        train, last = self.config.train, epoch == self.config.train.epochs
        if self.loop.val_loader is not None and (epoch % train.eval_every == 0 or last):
            better = self._validate(epoch, health=epoch % train.health_every == 0 or last)
            if better:
                self._save("best")
        if epoch % train.save_every == 0:
            self._save("epoch", epoch)
        self._save()

    def _validate(self, epoch: int, health: bool) -> bool:
        from signstream.tasks.rvq.validation import validate

        loop, found = self.loop, validate(self.loop, health)
        numbers, loop.budget = found.numbers, found.budget
        self.journal.numbers(loop.step, epoch, "val", numbers)
        terms = ", ".join(f"{name} {numbers[name]:.4g}" for name in self.loop.losses.names)
        line = f"epoch {epoch}: validation loss {numbers['loss']:.4g}, {terms}"
        if "recon/weighted/local" in numbers:
            line += f"; {numbers['recon/weighted/local']:.4f} shoulder widths"
        self.say(line)
        if health:
            self._tell_health(numbers, found)
        self._tell_samples(epoch, found)
        better = bool(loop.model.quantizer.initialised) and numbers["rec"] < loop.best
        loop.best = min(loop.best, numbers["rec"]) if better else loop.best
        return better

    def _tell_health(self, numbers: dict[str, float], found) -> None:
        levels = [
            name.rsplit("/", 1)[0] for name in numbers if name.startswith("codes/") and name.endswith("/perplexity")
        ]
        each = [level for level in levels if level != "codes/worst"]
        if each:
            self.health = {
                "entropy_bits": sum(math.log2(numbers[f"{level}/perplexity"]) for level in each) / len(each),
                "dead": round(sum(numbers[f"{level}/dead"] for level in each) * self.config.model.rvq.codebook_size),
            }
        for level in levels:
            self.say(
                f"  {level}: used {numbers[f'{level}/used']:.1%}, perplexity {numbers[f'{level}/perplexity']:.0f}, "
                f"entropy {numbers[f'{level}/entropy']:.3f} of the most, dead {numbers[f'{level}/dead']:.1%}"
            )
        for part in ("weighted", *self.loop.parts):
            ours, still = numbers.get(f"recon/{part}/local"), numbers.get(f"mean_pose/{part}/local")
            if ours is not None and still:
                self.say(f"  {part}: error {ours:.4f} shoulder widths, {ours / still:.1%} of the mean pose's")
        for p, level in found.use.places():
            self.journal.histogram(self.loop.step, f"use/{self.loop.parts[p]}/{level}", found.use.counts[p, level])
        for part, level in found.collapsed:
            self.say(
                f"  warning: the codebook of {part}, level {level}, is collapsing: raise model.rvq.usage_reg or model.rvq.revive_below, "
                "or lower train.lr"
            )
        if found.picture is not None:
            self._picture(found.picture)

    def _picture(self, picture) -> None:
        import torch

        from signstream.pictures.figure import figure_pixels, save_figure
        from signstream.tasks.rvq.pictures import reconstruction_animation, reconstruction_sheet

        skeleton, path = self.loop.cache.skeleton, self.folder.samples / f"reconstruction_{self.loop.step:07d}.png"
        figure = reconstruction_sheet(*picture, skeleton)
        self.folder.samples.mkdir(exist_ok=True)
        save_figure(figure, path)
        self.journal.image(self.loop.step, "reconstruction", torch.from_numpy(figure_pixels(figure)).permute(2, 0, 1))
        animation = path.with_suffix(".gif")
        reconstruction_animation(*picture, skeleton, self.config.data.fps, animation)
        self.journal.animation(self.loop.step, "reconstruction_animation", animation.read_bytes())

    def _tell_samples(self, epoch: int, found) -> None:
        if not self.ranks.is_main or not found.samples:
            return
        self.folder.samples.mkdir(exist_ok=True)
        text = "\n\n".join("\n".join((name, *lines)) for name, lines in found.samples.items())
        (self.folder.samples / f"tokens_epoch_{epoch:04d}.txt").write_text(
            text + "\n", encoding="utf-8", errors="backslashreplace"
        )
        self.journal.text(self.loop.step, "tokens", text.replace("\n", "  \n"))
        name, lines = next(iter(found.samples.items()))
        self.say(f"  tokens of {name}: {' '.join(lines[:2])}" + (" ..." if len(lines) > 2 else ""))

    def _save(self, kind: str = "last", epoch: int = 0) -> None:
        from signstream.training.checkpoint import save
        from signstream.training.seed import generator_states

        self.journal.sync()
        generators = self.ranks.collect(generator_states())
        if self.ranks.is_main:
            path = {"last": self.folder.last, "best": self.folder.best, "epoch": self.folder.epoch(epoch)}[kind]
            save({**self.loop.state(), "generators": generators}, path)
            if kind == "epoch":
                self.folder.prune(self.config.train.keep)
        self.ranks.barrier()


def train(config: Config, checkpoint: str | None, overrides: list[str] | None = None) -> int:
    """`overrides`: the command line named no config, so a checkpoint's own is used with these on top."""
    from signstream.io.pose_cache import PoseCache
    from signstream.training import checkpoint as files
    from signstream.training import seed
    from signstream.training.distributed import start
    from signstream.training.loop import Loop, auto_batch
    from signstream.training.utils_tb import open_journal
    from signstream.training.utils_wandb import check_wandb

    stop = Stop()
    with start(config.train.device, config.train.threads) as ranks:
        found = ranks.from_main(
            lambda: files.find(checkpoint, config.save_path, config.experiment_name) if checkpoint else None
        )
        state = files.load(found) if found else None
        if state is not None:
            saved = from_dict(state["config"])
            config = config if overrides is None else load_config(None, overrides, saved)
            registry.check(config)
            files.check_same(config, saved, FREE_TO_CHANGE, "a run goes on with what it began with")
        ranks.from_main(lambda: check_wandb(config))
        seed.seed_everything(config.train.seed, ranks.rank)
        cache = PoseCache.open(config.data, quiet=not ranks.is_main)
        folder = files.RunFolder(Path(found).parent) if found else None
        if folder is None:
            folder = files.RunFolder(
                ranks.from_main(lambda: files.RunFolder.create(config.save_path, config.experiment_name).path)
            )
        loop = Loop(config, cache, ranks, auto_batch(config, cache, ranks))
        opened: list[Journal | Both] = []
        ranks.from_main(lambda: opened.append(open_journal(folder, state["step"] if state else None, config=config)))
        journal = opened[0] if opened else open_journal(folder, write=False)
        run = Run(loop, folder, journal, ranks)
        if ranks.is_main:
            folder.sweep()
            if state is None:
                folder.describe(config, files.environment(ranks.device, ranks.world, config.train.seed))
                cache.write_skipped(folder.skipped)
        run.say(
            f"run: {folder.path}; {ranks.world} process{'es' * (ranks.world > 1)} on {ranks.device}, {ranks.threads} threads each"
        )
        run.say(f"data: {cache.summary()}")
        run.say(
            f"model: {config.model.arch}, {sum(p.numel() for p in loop.model.parameters()) / 1e6:.1f} M parameters; a step is "
            f"{ranks.world} x {loop.accumulate} x {loop.micro} clips, {loop.total_steps} steps in {config.train.epochs} epochs"
        )
        if state is None:
            loop.fit_constants()
        else:
            loop.load_state(state)
            if len(state["generators"]) == ranks.world:
                seed.restore_generators(state["generators"][ranks.rank])
            run.say(f"going on from {found}, step {loop.step}")
        try:
            ended = run.train(stop)
            best = f", best {folder.best}" if folder.best.exists() else ""
            run.say(f"{'done' if ended else 'stopped, saved'}: step {loop.step}, {folder.last}{best}")
        finally:
            run.close()
        return 0 if ended else 128 + (stop.signal or signal.SIGTERM)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m signstream.training.train_rvq",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="go on from a checkpoint, a run folder, or `auto`: the experiment's newest run, if any",
    )
    parser.add_argument(
        "--wandb-project",
        dest="implied",
        action="append",
        type=lambda name: f"train.log_wandb={json.dumps(name)}",
        metavar="NAME",
        help="log to this project of Weights & Biases as well",
    )
    args = cli.parse_with_config(parser, argv)
    config = load_config(args.config, args.overrides)
    restarted = (
        int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) > 0
    )  # torchrun began anew after a rank died: go on, not over
    return train(config, args.checkpoint or ("auto" if restarted else None), None if args.config else args.overrides)


if __name__ == "__main__":
    cli.run(main)
