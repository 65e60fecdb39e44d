"""The tokenizer's config: data, model, loss, train, export. What a key means is said in configs/default.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from signstream.config.common import Base, Data
from signstream.config.schema import nearest, option
from signstream.errors import UserError, shown
from signstream.skeleton import JOINT_GROUPS, NUM_JOINTS

HEAD_WIDTH = 32  # the transformer has a head for every so many of its width

# Nothing of a codebook is left to keep alive: the grid of fsq is fixed.
NO_CODEBOOK = {"kind": ("fsq",)}
UNTAUGHT = {"semantic": ("off",)}


@dataclass(frozen=True)
class Rvq:
    kind: Literal["ema", "fsq"] = "ema"
    levels: int | dict[str, int] = option(3, low=1)
    codebook_size: int = option(1024, low=2)
    ema_decay: float = option(0.99, low=0, high=1, idle=NO_CODEBOOK)
    kmeans: int = option(15, low=0, idle=NO_CODEBOOK)
    commitment_beta: float = option(0.25, low=0)
    usage_reg: float = option(1e-3, low=0, idle=NO_CODEBOOK)
    temporal_loss_alpha: float = option(0.05, low=0)
    level_dropout: float = option(0.1, low=0, high=1, idle={"levels": (1,)})
    revive_below: float = option(0.1, low=0, high=1, idle=NO_CODEBOOK)
    semantic: Literal["off", "gloss", "text", "next"] = "off"
    look_back: int = option(6, low=0, idle=UNTAUGHT)


@dataclass(frozen=True)
class Model:
    arch: str = option("transformer", names="arch")
    encoder_layer: int = option(2, low=1)
    encoder_latent_dim: int = option(256, low=1)
    latent_dim: int = option(256, low=1)
    type_embed_dim: int = option(16, low=1)
    pool: Literal["flatten", "attention", "mean"] = option("flatten", idle={"arch": ("mlp", "stgcn")})
    share_hands: bool = True
    checkpointing: bool = option(False, idle={"arch": ("transformer", "mlp")})
    compile: bool = False
    rvq: Rvq = field(default_factory=Rvq)

    def check(self) -> None:
        width = self.encoder_latent_dim
        heads = max(width // HEAD_WIDTH, 1)
        if self.arch == "transformer" and width % heads:
            lower = width // HEAD_WIDTH * HEAD_WIDTH
            raise UserError(
                f"model.encoder_latent_dim is {width}: the transformer has a head for every {HEAD_WIDTH} of it, "
                f"so {heads}, which must share it evenly; {lower} or {lower + HEAD_WIDTH} would do"
            )
        if self.compile and self.arch == "stgcn":
            raise UserError(
                "model.compile is true and model.arch stgcn: torch's compiler fails on its graphs; leave it false"
            )


@dataclass(frozen=True)
class Loss:
    huber_delta: float = option(0.1, low=1e-6)
    part_weights: dict[str, float] = option(
        {"face": 1.0, "left_hand": 2.0, "right_hand": 2.0, "body": 1.0, "full_body": 1.0}
    )
    joint_weights: dict[str, float] = option({})
    perceptual_weight: float = option(0.0, low=0)
    semantic_weight: float = option(1.0, low=1e-6)
    terms: dict[str, float] = option({}, names="loss")

    def check(self) -> None:
        for name, weight in self.joint_weights.items():
            if name not in JOINT_GROUPS:
                near = nearest(name, JOINT_GROUPS)
                hint = f"did you mean {near}?" if near else f"the groups of joints are {', '.join(JOINT_GROUPS)}"
                raise UserError(f"loss.joint_weights names {shown(name)}: {hint}")
            if weight < 0:
                raise UserError(f"loss.joint_weights.{name} is {weight:g}: a weight from 0 is expected")


@dataclass(frozen=True)
class Export:
    codes_per_chunk: float | Literal["full"] = option(6.0, low=0)
    enable_rle: bool = True
    rle_threshold: float = option(0.01, low=0, idle={"enable_rle": (False,)})


@dataclass(frozen=True)
class Config(Base):
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    export: Export = field(default_factory=Export)

    def check(self) -> None:
        super().check()
        if self.model.rvq.semantic != "off" and self.data.chunk_stride is not None:
            raise UserError(
                f"data.chunk_stride is {self.data.chunk_stride}, and model.rvq.semantic {self.model.rvq.semantic}: "
                "codes that look back are to see chunks that do not overlap, as they will later; leave one out"
            )
        if self.loss.joint_weights and self.data.num_joints != NUM_JOINTS:
            raise UserError(
                f"loss.joint_weights names groups of COCO-WholeBody's {NUM_JOINTS} joints, and data.num_joints is "
                f"{self.data.num_joints}: leave it out"
            )
