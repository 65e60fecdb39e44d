"""Weights & Biases as a second journal: the same names and steps as TensorBoard's, in the project that
`train.log_wandb` names.

A run keeps its id in its folder, so a resumed run goes on as the same one. Every line carries `step`, which is the
axis of all charts: wandb's own count of calls means nothing, and where steps are done twice after a stop, the same
numbers are drawn twice in the same place. WANDB_MODE=offline writes to wandb/ in the run's folder, for `wandb sync`
later. The package is needed only here.
"""

from __future__ import annotations

import html
import io
import uuid
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from signstream.config import Base, to_dict
from signstream.errors import UserError
from signstream.io.whole import write_whole
from signstream.training.run_folder import RunFolder

PROJECT = "signstream"


class WandbJournal:
    """What Journal is, for wandb."""

    def __init__(self, folder: RunFolder, config: Base) -> None:
        self._wandb = _package()
        project = PROJECT if config.train.log_wandb is True else config.train.log_wandb
        try:
            self._run = self._wandb.init(
                project=project,
                id=_run_id(folder),
                resume="allow",
                name=f"{config.experiment_name}/{folder.path.name}",
                dir=str(folder.path),
                config=to_dict(config),
                settings=self._wandb.Settings(console="off"),
            )
        except self._wandb.Error as error:
            raise UserError(
                f"train.log_wandb: Weights & Biases cannot begin a run: {' '.join(str(error).split())}. "
                "`wandb login` logs in, WANDB_MODE=offline needs no login"
            ) from None
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def numbers(self, step: int, split: str, values: Mapping[str, Any], *, epoch: int) -> None:
        self._log(step, {f"{split}/{name}": float(value) for name, value in values.items()} | {"epoch": epoch})

    def speed(self, step: int, values: Mapping[str, Any]) -> None:
        self._log(step, {f"speed/{name}": float(value) for name, value in values.items()})

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        finite = values.detach().float().flatten()
        finite = finite[finite.isfinite()]
        if len(finite):
            self._log(step, {name: self._wandb.Histogram(finite.cpu().numpy())})

    def text(self, step: int, name: str, text: str) -> None:
        self._log(step, {name: self._wandb.Html(f"<pre>{html.escape(text)}</pre>")})

    def image(self, step: int, name: str, image: Tensor) -> None:
        """[3, H, W], uint8 or 0 to 1."""
        self._log(step, {name: self._wandb.Image(image.permute(1, 2, 0).cpu().numpy())})

    def animation(self, step: int, name: str, gif: bytes) -> None:
        self._log(step, {name: self._wandb.Video(io.BytesIO(gif), format="gif")})

    def sync(self) -> None:
        """wandb's own process writes what it is told; a checkpoint does not wait for it."""

    def close(self) -> None:
        self._run.finish()

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        self._run.log({"step": step, **values})


def check_wandb(config: Base) -> None:
    """That the package is there, if the config asks for it."""
    if config.train.log_wandb:
        _package()


def _package() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            f"train.log_wandb needs the package wandb ({error}): pip install wandb, or set train.log_wandb=false"
        ) from None
    return wandb


def _run_id(folder: RunFolder) -> str:
    """The run's id, kept in its folder from the first time on."""
    path = folder.path / "wandb_id"
    if not path.exists():
        write_whole(path, lambda file: file.write(uuid.uuid4().hex[:12].encode()))
    return path.read_text(encoding="ascii").strip()
