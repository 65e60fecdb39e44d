"""Names that the specifications print, read as ours: `training:` and the top-level keys of the Pose Tokenizer's README.

    rename({"num_epochs": 100, "train": {"lr": 1e-3}}, "my.yaml") -> {"train": {"lr": 1e-3, "epochs": 100}}

configs/default.yaml lists them for people; a test holds that list equal to the tables here. Imports nothing of ours.
"""

from __future__ import annotations

from typing import Any

from signstream.errors import UserError

SECTIONS = {"training": "train"}
VALUES = {"train.amp": {"bf32": "bf16"}}
KEYS = {
    "num_keypoints": "data.num_joints",
    "sequence_length": "data.window",
    "num_workers": "data.workers",
    "hidden_dim": "model.encoder_latent_dim",
    "num_layers": "model.encoder_layer",
    "num_quantizers": "model.rvq.levels",
    "codebook_size": "model.rvq.codebook_size",
    "quantization_weight": "model.rvq.commitment_beta",
    "temporal_weight": "model.rvq.temporal_loss_alpha",
    "perceptual_weight": "train.perceptual_weight",
    "batch_size": "train.clips_per_step",
    "num_epochs": "train.epochs",
    "learning_rate": "train.lr",
    "use_amp": "train.amp",
    "use_wandb": "train.log_wandb",
}
FIXED = {
    "keypoint_dim": (3, "a joint is x, y and its score"),
    "optimizer_type": ("adamw", "there is no other optimiser"),
    "scheduler_type": ("warmup_cosine", "there is no other schedule"),
    "reconstruction_weight": (1, "the other weights are relative to it: divide them by it"),
    "pin_memory": (True, "memory is pinned whenever a GPU trains"),
}
COMMITMENT = 0.25  # what a quantization_weight of 1 is as model.rvq.commitment_beta: the codebooks follow an average, so no other loss trains them


class Frames(int):
    """A data.window that is given in frames, until the chunk's length is known."""


def rename(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """A file's table, or an override's, under our names. A key that stands there under both its names is an error."""
    for theirs, ours in SECTIONS.items():
        if theirs in tree and ours in tree:
            raise UserError(f"{where} has {theirs!r} and {ours!r}, which are the same section: keep one")
    out = {SECTIONS.get(key, key): value for key, value in tree.items() if key not in KEYS and key not in FIXED}
    for key, (only, why) in FIXED.items():
        if key in tree and (tree[key] != only or isinstance(tree[key], bool) != isinstance(only, bool)):
            raise UserError(f"{where}: {key} is {tree[key]!r}: {only!r} is expected, since {why}")
    for key, path in KEYS.items():
        if key in tree:
            _place(
                out,
                path,
                _converted(key, tree[key], where),
                f"{where} has {key!r} and {path!r}, which are the same option: keep one",
            )
    return out


def _place(tree: dict[str, Any], path: str, value: Any, clash: str) -> None:
    *sections, last = path.split(".")
    for section in sections:
        inner = tree.get(section)
        if inner is not None and not isinstance(inner, dict):
            return  # an error of its own, which says what a section is
        tree[section] = tree = dict(inner or {})
    if last in tree:
        raise UserError(clash)
    tree[last] = value


def _converted(key: str, value: Any, where: str) -> Any:
    if key == "use_amp":
        if not isinstance(value, bool):
            raise UserError(f"{where}: use_amp is {value!r}: true (train.amp bf16) or false (fp32) is expected")
        return "bf16" if value else "fp32"
    if key in ("quantization_weight", "sequence_length"):
        try:
            number = float("nan" if isinstance(value, bool) else value)
        except (TypeError, ValueError):
            number = float("nan")
        if key == "quantization_weight" and number >= 0:
            return COMMITMENT * number
        if key == "sequence_length" and number >= 1 and number % 1 == 0:
            return Frames(number)
        raise UserError(
            f"{where}: {key} is {value!r}: {'a whole number of frames' if key == 'sequence_length' else 'a number from 0'} is expected"
        )
    return value


def whole_window(tree: dict[str, Any], chunk_len: int) -> dict[str, Any]:
    """A window that was given in frames, in chunks. Without a chunk_len in the tree, chunks are as long as divides it: 8 to 12 frames, near to 10."""
    data = tree.get("data")
    frames = data.get("window") if isinstance(data, dict) else None
    if not isinstance(frames, Frames):
        return tree
    dividing = [length for length in (10, 9, 11, 8, 12) if frames % length == 0]
    told = data.get("chunk_len", dividing[0] if dividing else chunk_len)
    if not str(told).isdecimal() or int(told) == 0:
        return {**tree, "data": {**data, "window": 1}}  # chunk_len has an error of its own
    if frames % int(told):
        advice = f"data.chunk_len={dividing[0]} would do" if dividing else "give another one of the two"
        raise UserError(
            f"sequence_length is {frames}, no multiple of data.chunk_len {told}: a window is whole chunks; {advice}"
        )
    return {**tree, "data": {**data, "chunk_len": int(told), "window": frames // int(told)}}
