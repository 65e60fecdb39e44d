"""The recogniser's config: data, model, loss, train, decode. What a key means is said in configs/recognition.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from signstream.config.common import FASTEST, SLOWEST, Base, PoseAugment, Ranges, Train
from signstream.config.frames import Frames
from signstream.config.schema import option
from signstream.config.sequences import SequenceData, TokenModel
from signstream.errors import UserError

NO_MAMBA = {"mixer": ("transformer", "bilstm")}
Sizes = tuple[int, ...]
FIFTH = (4,)
MAMBA_EXPANDS = 2  # its heads share so many times the width


@dataclass(frozen=True)
class RecognitionData(SequenceData):
    root: str = "./phoenix2014"
    layout: str = option("phoenix2014", names="layout")
    fps: float = option(25.0, low=SLOWEST, high=FASTEST)
    source: Literal["frames", "keypoints", "latents", "codes"] = "frames"
    clean: Literal["phoenix2014", "phoenix2014t", "none"] = "phoenix2014"
    gloss_dict: str | None = None
    body_parts: Ranges = option({"face": (24, 91), "left_hand": (92, 112), "right_hand": (113, 133), "body": (1, 17)})
    augment: PoseAugment = field(default_factory=PoseAugment)
    frames: Frames = field(default_factory=Frames)


@dataclass(frozen=True)
class KeypointModel:
    part_width: int = option(96, low=1)
    strides: Sizes = (2, 2)
    kernel: int = option(5, low=1)
    share_hands: bool = False

    def check(self) -> None:
        if not self.strides or not all(1 <= stride <= self.kernel for stride in self.strides):
            raise UserError(
                f"model.keypoints.strides is {list(self.strides)}: strides from 1 to model.keypoints.kernel "
                f"{self.kernel}, one a convolution, are expected"
            )


@dataclass(frozen=True)
class FrameModel:
    stem_blocks: int = option(3, low=0)
    stride: int = option(1, low=1, high=100)
    axes: int = option(0, low=0, high=1728)
    layers: int = option(0, low=0)
    attention: Sizes = FIFTH
    state: int = option(16, low=1)
    groups: int = option(4, low=1)


@dataclass(frozen=True)
class RecognitionModel:
    mixer: Literal["mamba", "transformer", "bilstm"] = "mamba"
    causal: bool = False
    width: int = option(512, low=8)
    depth: int = option(12, low=1)
    head: int = option(64, low=2, idle={"mixer": ("bilstm",)})
    state: int = option(32, low=1, idle=NO_MAMBA)
    groups: int = option(2, low=1, idle=NO_MAMBA)
    past: int = option(128, low=1, idle={"mixer": ("mamba", "bilstm")})
    expand: int = option(4, low=1)
    dropout: float = option(0.1, low=0, high=0.9)
    drop_path: float = option(0.4, low=0, high=0.9)
    checkpointing: bool = False
    keypoints: KeypointModel = field(default_factory=KeypointModel)
    tokens: TokenModel = field(default_factory=TokenModel)
    frames: FrameModel = field(default_factory=FrameModel)

    def check(self) -> None:
        ways = 1 if self.causal else 2
        head = max(size for size in range(1, min(self.head, self.width) + 1) if self.width % size == 0)
        heads = MAMBA_EXPANDS * self.width // head // ways
        if self.mixer == "mamba" and (self.groups % ways or heads % (self.groups // ways)):
            raise UserError(
                f"model.groups is {self.groups}: model.width {self.width} makes {heads} heads of {head} in each of "
                f"{ways} directions, which the groups of a direction must share evenly; {ways} would do"
            )
        blocks, attention = self.frames.layers or self.depth, self.frames.attention
        if attention != FIFTH and not all(0 <= number < blocks for number in attention):
            raise UserError(f"model.frames.attention is {list(attention)}: the {blocks} blocks count from 0")


@dataclass(frozen=True)
class RecognitionLoss:
    smoothing: float = option(0.0, low=0)


@dataclass(frozen=True)
class Decode:
    beam: int = option(5, low=1, high=1000)
    skip_blank: float = option(0.95, low=0.5, high=1, idle={"beam": (1,)})


@dataclass(frozen=True)
class RecognitionTrain(Train):
    epochs: int = option(100, low=1)
    clips_per_step: int = option(8, low=1)
    wd: float = option(0.05, low=0)
    warmup_steps: int = option(1000, low=0)
    clip_norm: float = option(5.0, low=0)
    layer_decay: float = option(1.0, low=1e-3, high=1)
    average: float = option(0.9999, low=0, high=0.999999)
    kernel: Literal["torch", "mamba_ssm"] = "torch"


@dataclass(frozen=True)
class RecognitionConfig(Base):
    task: str = option("recognition", names="task")
    experiment_name: str = "recognition"
    data: RecognitionData = field(default_factory=RecognitionData)
    model: RecognitionModel = field(default_factory=RecognitionModel)
    loss: RecognitionLoss = field(default_factory=RecognitionLoss)
    train: RecognitionTrain = field(default_factory=RecognitionTrain)
    decode: Decode = field(default_factory=Decode)
