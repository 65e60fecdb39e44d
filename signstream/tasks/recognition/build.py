"""From a config to the recogniser: what it reads, how large it is, how many glosses it knows.

front = front_of(config, shape, vectors)        shape: of what a tokenizer's files hold, () for keypoints and frames
model = model_of(config, front, glosses)
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from signstream.config.recognition import RecognitionConfig
from signstream.data.datasets import skeleton_of
from signstream.models.recognition import Recognizer
from signstream.models.recognition_blocks import Mixing
from signstream.models.recognition_frames import FrameFront, SpatialSizes
from signstream.models.recognition_fronts import ChunkSizes, CodeFront, Front, KeypointFront, LatentFront

SHAPES = {"keypoints": (), "frames": (), "latents": ("P", "Z"), "codes": ("P", "Q", "K", "Z")}


def front_of(config: RecognitionConfig, shape: Sequence[int], vectors: Tensor | None = None) -> Front:
    """`vectors` [P, Q, K, Z]: what codes begin as; without them, as drawn."""
    model, source = config.model, config.data.source
    assert len(shape) == len(SHAPES[source]), f"{source} of shape {shape}"
    if source == "keypoints":
        return _keypoint_front(config)
    sizes = ChunkSizes(model.tokens.part_width, model.tokens.steps_a_chunk, model.causal)
    if source == "latents":
        return LatentFront(shape[0], shape[1], width=model.width, sizes=sizes)
    if source == "codes":
        return CodeFront(shape, width=model.width, vectors=vectors, seed=config.train.seed, sizes=sizes)
    return _frame_front(config)


def _keypoint_front(config: RecognitionConfig) -> KeypointFront:
    model, sizes, skeleton = config.model, config.model.keypoints, skeleton_of(config.data)
    pairs = [(part, skeleton.mirror_image(part)) for part in skeleton.parts] if sizes.share_hands else []
    places = {part.name: number for number, part in enumerate(skeleton.parts)}
    return KeypointFront(
        skeleton.parts,
        width=model.width,
        part_width=sizes.part_width,
        strides=sizes.strides,
        kernel=sizes.kernel,
        causal=model.causal,
        twins=[(places[one.name], places[other.name]) for one, other in pairs if other and one.start < other.start],
    )


def _frame_front(config: RecognitionConfig) -> FrameFront:
    """Without layers of its own each of its blocks is one over time, too."""
    model, sizes = config.model, config.model.frames
    return FrameFront(
        width=model.width,
        layers=sizes.layers or model.depth,
        stem_blocks=sizes.stem_blocks,
        heat=config.data.frames.heat,
        stride=sizes.stride,
        axes=sizes.axes,
        mixing=None if sizes.layers else mixing_of(config),
        spatial=SpatialSizes(
            sizes.attention, model.head, sizes.state, sizes.groups, kernel=config.train.kernel, expand=model.expand
        ),
        checkpointing=model.checkpointing,
    )


def mixing_of(config: RecognitionConfig) -> Mixing:
    model = config.model
    sizes = {"head": model.head, "state": model.state, "groups": model.groups, "past": model.past}
    return Mixing(model.mixer, model.causal, kernel=config.train.kernel, **sizes)


def model_of(config: RecognitionConfig, front: Front, glosses: int) -> Recognizer:
    model = config.model
    return Recognizer(
        front,
        glosses,
        width=model.width,
        depth=0 if config.data.source == "frames" and not model.frames.layers else model.depth,
        mixing=mixing_of(config),
        expand=model.expand,
        drop_path=model.drop_path,
        dropout=model.dropout,
        checkpointing=model.checkpointing,
        seed=config.train.seed,
    )
