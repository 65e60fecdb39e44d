"""What the configs of all tasks share: Base, the section `train`, and for those that read poses the section `data`.

What a key means is said in configs/default.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from signstream.config.schema import option
from signstream.errors import UserError, shown

Ranges = dict[str, tuple[int, int]]
Pairs = tuple[tuple[int, int], ...]
# Frames a second: fewer would make millions of frames of a clip that has more, more no camera gives.
SLOWEST, FASTEST = 1.0, 1000.0
NOT_PHOENIX2014 = {"layout": ("csl_daily", "npz", "phoenix14t")}


@dataclass(frozen=True)
class Normalize:
    center_parts: bool = True
    bbox_range: float = option(8.0, low=1e-3)


@dataclass(frozen=True)
class PoseAugment:
    """Of poses, whatever is made of them."""

    mirror: bool = True
    time_warp: bool = True
    time_warp_range: float = option(0.2, low=0, high=0.9, idle={"time_warp": (False,)})
    affine: float = option(0.0, low=0, high=1)
    dropout_prob: float = option(0.05, low=0, high=1)


@dataclass(frozen=True)
class Augment(PoseAugment):
    random_phase: bool = True
    calm: float = option(0.0, low=0, high=1, idle={"mirror": (False,), "affine": (0.0,)})


@dataclass(frozen=True)
class Poses:
    """A data set's poses, from its files through the front end: what stands in a pose cache."""

    root: str = "./CSL-Daily"
    layout: str = option("csl_daily", names="layout")
    split_file: str | None = option(None, idle={"layout": ("npz", "phoenix2014", "phoenix14t")})
    meta_dir: str | None = option(None, idle=NOT_PHOENIX2014)
    keypoints: str | None = option(None, idle=NOT_PHOENIX2014)
    check_num_frames: bool = option(True, idle={"layout": ("npz", "phoenix14t")})
    cache: str = "cache"
    workers: int = option(0, low=0)
    fps: float = option(30.0, low=SLOWEST, high=FASTEST)
    max_frames: int | None = option(None, low=1)
    min_score: float = option(0.3, low=0, high=1)
    max_gap: int = option(4, low=0)
    smooth: int = option(2, low=0, high=8)
    unit_window: int = option(300, low=1)
    num_joints: int = option(133, low=1)
    body_parts: Ranges = option(
        {"face": (24, 91), "left_hand": (92, 112), "right_hand": (113, 133), "body": (1, 17), "full_body": (1, 133)}
    )
    centers: dict[str, int] | None = None
    unit_joints: Pairs | None = None
    mirror_pairs: Pairs | None = None
    augment: PoseAugment = field(default_factory=PoseAugment)

    @property
    def lookahead(self) -> int:
        """Frames (at `fps`) that the front end waits for before one is final: gaps may close, filters look ahead."""
        return self.max_gap + self.smooth

    def check(self) -> None:
        if self.smooth == 1:
            raise UserError(
                "data.smooth is 1: the filter of three taps changes nothing; 0 turns it off, 2 is the default"
            )


@dataclass(frozen=True)
class Data(Poses):
    """Poses in chunks, a part by itself."""

    chunk_len: int = option(10, low=1)
    window: int = option(1, low=1)
    chunk_stride: int | None = option(None, low=1)
    normalize: Normalize = field(default_factory=Normalize)
    augment: Augment = field(default_factory=Augment)

    def check(self) -> None:
        super().check()
        if self.chunk_stride is not None and self.chunk_stride > self.chunk_len * self.window:
            windows = f" x data.window {self.window}" if self.window > 1 else ""
            raise UserError(
                f"data.chunk_stride is {self.chunk_stride}, longer than data.chunk_len {self.chunk_len}{windows}: "
                "frames would be left out"
            )


@dataclass(frozen=True)
class Train:
    epochs: int = option(200, low=1)
    batch_size: int | Literal["auto"] = option("auto", low=1)
    clips_per_step: int = option(64, low=1)
    scale_with_world: bool = True
    lr: float = option(3e-4, low=0)
    wd: float = option(0.01, low=0)
    warmup_steps: int = option(500, low=0)
    min_lr: float = option(0.02, low=0, high=1)
    clip_norm: float = option(1.0, low=0)
    amp: Literal["bf16", "fp16", "fp32"] = "bf16"
    save_every: int = option(5, low=1)
    keep: int = option(3, low=1)
    eval_every: int = option(1, low=1)
    health_every: int = option(5, low=1)
    patience: int | None = option(None, low=1)
    test_best: bool = False
    log_every: int = option(20, low=1)
    log_dir: str | None = None
    sample_clips: int = option(5, low=0)
    device: str = "auto"
    threads: int | Literal["auto"] = option("auto", low=1)
    log_wandb: bool | str = False
    seed: int = option(42, low=0, high=10**18)


@dataclass(frozen=True)
class Base:
    """What a config of any task has. A task's own class adds its sections."""

    task: str = option("rvq", names="task")
    experiment_name: str = "default"
    save_path: str = "checkpoints"
    imports: tuple[str, ...] = option((), added=True)
    train: Train = field(default_factory=Train)

    def check(self) -> None:
        for module in self.imports:
            if module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
                raise UserError(
                    f"imports holds {shown(module)}: the name of a module is expected, my_signs for a file my_signs.py"
                )
        if not self.experiment_name or "/" in self.experiment_name or self.experiment_name in (".", ".."):
            raise UserError(
                f"experiment_name is {shown(self.experiment_name)}: "
                "it names a folder, so letters, digits, - and _ are expected"
            )
