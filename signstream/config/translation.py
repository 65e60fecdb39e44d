"""The configs of translation's two phases: contrast (signing against sentences), then translation. What a key means is
said in configs/contrast.yaml and configs/translation.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from signstream.config.common import FASTEST, SLOWEST, Base, PoseAugment, Train
from signstream.config.schema import option
from signstream.config.sequences import SequenceData, TokenModel
from signstream.errors import UserError

SPECIFIED_POINTS = 75  # MediaPipe's; joints75.py says which of the 133 they are
NO_POINTS = {"source": ("latents", "codes", "glosses")}
TINY = "tiny"
SPECIFIED_FROZEN = ("embedding", "positions", "encoder")


@dataclass(frozen=True)
class SentenceAugment(PoseAugment):
    mirror: bool = False


@dataclass(frozen=True)
class SentenceData(SequenceData):
    root: str = "./PHOENIX-2014-T"
    layout: str = option("phoenix14t", names="layout")
    fps: float = option(25.0, low=SLOWEST, high=FASTEST)
    source: Literal["keypoints", "latents", "codes", "glosses"] = "keypoints"
    clean: Literal["phoenix2014", "phoenix2014t", "none"] = "phoenix2014t"
    points: int = option(SPECIFIED_POINTS, low=1, idle=NO_POINTS)
    visual: str | None = "siglip_vitb16"
    max_tokens: int = option(64, low=3)
    lower: bool = False
    augment: SentenceAugment = field(default_factory=SentenceAugment)

    def check(self) -> None:
        super().check()
        if self.source == "keypoints" and self.points not in {self.num_joints, SPECIFIED_POINTS if self.whole else 0}:
            either = f"{SPECIFIED_POINTS} or {self.num_joints}" if self.whole else str(self.num_joints)
            raise UserError(f"data.points is {self.points}: of {self.num_joints} joints, {either} can be read")
        if self.visual is not None and self.augment.mirror:
            raise UserError(
                f"data.augment.mirror is true and data.visual {self.visual}: features of pictures cannot be mirrored; "
                "set one of them to false or null"
            )

    @property
    def whole(self) -> bool:
        """Whether the joints are COCO-WholeBody's."""
        return self.num_joints == 133


@dataclass(frozen=True)
class EncoderModel:
    width: int = option(384, low=8)
    depth: int = option(4, low=1)
    heads: int = option(4, low=1)
    expand: int = option(4, low=1)
    visual_layers: int = option(2, low=0)
    dropout: float = option(0.3, low=0, high=0.9)
    drop_path: float = option(0.1, low=0, high=0.9)
    squeeze: bool = False
    frames_a_step: int = option(1, low=1, high=100)
    tokens: TokenModel = field(default_factory=TokenModel)

    def check(self) -> None:
        if self.width % self.heads or self.width // self.heads % 2:
            raise UserError(
                f"model.encoder.heads is {self.heads}: model.encoder.width {self.width} must fall into heads of an "
                "even width"
            )
        if self.squeeze and self.depth < 3:
            raise UserError(f"model.encoder.squeeze is true, and model.encoder.depth {self.depth}: it takes 3 blocks")


@dataclass(frozen=True)
class TinyText:
    """Of both sides of an mBART that is drawn here."""

    vocabulary: int = option(1000, low=10, high=100_000)
    width: int = option(128, low=8)
    layers: int = option(2, low=1, high=100)
    heads: int = option(4, low=1)
    expand: int = option(4, low=1)
    positions: int = option(1024, low=16)
    dropout: float = option(0.1, low=0, high=0.9)


@dataclass(frozen=True)
class SignToText:
    """What both phases' models have."""

    encoder: EncoderModel = field(default_factory=EncoderModel)
    text: str = TINY
    source_language: str = "de_DE"
    target_language: str = "de_DE"
    tiny: TinyText = field(default_factory=TinyText)


@dataclass(frozen=True)
class ContrastEncoder(EncoderModel):
    dropout: float = option(0.4, low=0, high=0.9)


@dataclass(frozen=True)
class ContrastModel(SignToText):
    encoder: ContrastEncoder = field(default_factory=ContrastEncoder)
    embedding: int = option(256, low=1)
    temperature: float = option(0.07, low=0.01, high=10)
    match: Literal["pooled", "tokens"] = "pooled"


@dataclass(frozen=True)
class ContrastLoss:
    positives: Literal["sentence", "clip"] = "sentence"


@dataclass(frozen=True)
class ContrastTrain(Train):
    epochs: int = option(100, low=1)
    clips_per_step: int = option(200, low=2)
    lr: float = option(2e-4, low=0)
    wd: float = option(0.001, low=0)
    warmup_steps: int = option(0, low=0)
    patience: int | None = option(50, low=1)


@dataclass(frozen=True)
class ContrastConfig(Base):
    task: str = option("contrast", names="task")
    experiment_name: str = "contrast"
    data: SentenceData = field(default_factory=SentenceData)
    model: ContrastModel = field(default_factory=ContrastModel)
    loss: ContrastLoss = field(default_factory=ContrastLoss)
    train: ContrastTrain = field(default_factory=ContrastTrain)


@dataclass(frozen=True)
class TranslationModel(SignToText):
    init_from: str | None = None
    freeze: tuple[str, ...] | None = None
    scale_inputs: bool = False

    @property
    def frozen(self) -> tuple[str, ...]:
        """Of the text model; of a tiny one, which has learnt nothing that could be kept, nothing."""
        return self.freeze if self.freeze is not None else () if self.text == TINY else SPECIFIED_FROZEN


@dataclass(frozen=True)
class TranslationLoss:
    smoothing: float = option(0.1, low=0, high=0.9)
    ctc: float = option(0.0, low=0)


@dataclass(frozen=True)
class TranslationTrain(Train):
    epochs: int = option(500, low=1)
    clips_per_step: int = option(30, low=1)
    lr: float = option(1e-4, low=1e-12)
    text_lr: float = option(5e-6, low=0)
    wd: float = option(0.05, low=0)
    warmup_steps: int = option(2400, low=0)
    patience: int | None = option(300, low=1)


@dataclass(frozen=True)
class Beams:
    beams: int = option(5, low=1, high=100)
    max_tokens: int = option(60, low=1)
    length_penalty: float = option(1.0, low=-10, high=10)


@dataclass(frozen=True)
class TranslationConfig(Base):
    task: str = option("translation", names="task")
    experiment_name: str = "translation"
    data: SentenceData = field(default_factory=SentenceData)
    model: TranslationModel = field(default_factory=TranslationModel)
    loss: TranslationLoss = field(default_factory=TranslationLoss)
    train: TranslationTrain = field(default_factory=TranslationTrain)
    decode: Beams = field(default_factory=Beams)
