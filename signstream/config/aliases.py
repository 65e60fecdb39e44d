"""Other names of our options, read as ours: those that the specifications print, and those of older checkpoints.

    rename({"num_epochs": 100, "training": {"lr": 1e-3}}, "my.yaml", keys) -> {"train": {"lr": 1e-3, "epochs": 100}}

`keys` are the paths that the task's config has: a name stands for one of these, unless it is one of these itself.
configs/default.yaml and configs/recognition.yaml list the names for people; a test holds these lists equal to the
tables here.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from signstream.config.schema import shown
from signstream.errors import UserError
from signstream.errors import shown as quoted

SECTIONS = {"training": "train"}
VALUES = {"train.amp": {"bf32": "bf16"}}
# The top-level keys of the Pose Tokenizer's README.
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
    "perceptual_weight": "loss.perceptual_weight",
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
# The flags of the recognition specification; cli.py takes them on the command line.
RECOGNITION = {
    "prefix": "data.root",
    "meta_dir_path": "data.meta_dir",
    "gloss_dict_path": "data.gloss_dict",
    "kp_path": "data.keypoints",
    "frame_interval": "data.frames.interval",
    "use_heatmap": "data.frames.heat",
    "d_model": "model.width",
    "depth": "model.depth",
    "lr": "train.lr",
    "weight_decay": "train.wd",
    "output_dir": "save_path",
    "log_dir": "train.log_dir",
    "test_best": "train.test_best",
}
# Where options of ours stood before.
MOVED = {
    "train.huber_delta": "loss.huber_delta",
    "train.part_weights": "loss.part_weights",
    "train.perceptual_weight": "loss.perceptual_weight",
    "train.losses": "loss.terms",
}
# Options of ours that are no more: the one value that is read without a word, and why there is no other.
GONE = {
    "model.rvq.rotation": (
        False,
        "the rotation trick is gone, since it was clearly worse than the straight-through gradient (docs/LOG.md)",
    ),
}
# What a quantization_weight of 1 is as model.rvq.commitment_beta: the codebooks follow an average, so no other loss
# trains them.
COMMITMENT = 0.25


class Frames(int):
    """A data.window that is given in frames, until the chunk's length is known."""


def rename(tree: dict[str, Any], where: str, keys: Collection[str]) -> dict[str, Any]:
    """A file's table, or an override's, under our names. A key that stands there under both its names is an error."""
    for name, ours in SECTIONS.items():
        if name in tree and ours in tree:
            raise UserError(f"{where} has {name!r} and {ours!r}, which are the same section: keep one")
    out = _copied({SECTIONS.get(key, key): value for key, value in tree.items()})
    for key, (only, why) in FIXED.items():
        if key in out and key not in keys:
            value = out.pop(key)
            if value != only or isinstance(value, bool) != isinstance(only, bool):
                raise UserError(f"{where}: {key} is {quoted(value)}: {only!r} is expected, since {why}")
    for name, path in {**known(keys), **MOVED}.items():
        if path in keys and name not in keys and _has(out, name):
            clash = f"{where} has {name!r} and {path!r}, which are the same option: keep one"
            _put(out, path, _converted(name, _take(out, name), where), clash=clash)
    for path, (only, why) in GONE.items():
        if path not in keys and _has(out, path):
            value = _take(out, path)
            if value is not only:
                raise UserError(f"{where}: {path} is {shown(value)}: {why}; leave it out")
    for path, table in VALUES.items():
        if path in keys and _has(out, path):
            value = _take(out, path)
            _put(out, path, table.get(value, value) if isinstance(value, str) else value)
    return out


def known(keys: Collection[str]) -> dict[str, str]:
    """The specifications' names of a task's options."""
    recognition = RECOGNITION if set(RECOGNITION.values()).issubset(keys) else {}
    return {name: path for name, path in {**KEYS, **recognition}.items() if path in keys}


def _copied(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in tree.items()}


def _section(tree: dict[str, Any], path: str) -> tuple[Any, str]:
    """The table that holds the path's last name, and that name; None where there is no such table."""
    *sections, last = path.split(".")
    inner: Any = tree
    for section in sections:
        inner = inner.get(section) if isinstance(inner, dict) else None
    return inner if isinstance(inner, dict) else None, last


def _has(tree: dict[str, Any], path: str) -> bool:
    inner, last = _section(tree, path)
    return inner is not None and last in inner


def _take(tree: dict[str, Any], path: str) -> Any:
    inner, last = _section(tree, path)
    return inner.pop(last)


def _put(tree: dict[str, Any], path: str, value: Any, *, clash: str = "") -> None:
    *sections, last = path.split(".")
    for section in sections:
        inner = tree.get(section)
        if inner is not None and not isinstance(inner, dict):
            return  # an error of its own, which says what a section is
        tree[section] = tree = inner if inner is not None else {}
    if last in tree:
        raise UserError(clash)
    tree[last] = value


def _converted(key: str, value: Any, where: str) -> Any:
    if key == "use_amp":
        if not isinstance(value, bool):
            raise UserError(f"{where}: use_amp is {quoted(value)}: true (train.amp bf16) or false (fp32) is expected")
        return "bf16" if value else "fp32"
    if key not in ("quantization_weight", "sequence_length"):
        return value
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if key == "quantization_weight" and number >= 0:
        return COMMITMENT * number
    if key == "sequence_length" and number >= 1 and number % 1 == 0:
        return Frames(number)
    expected = "a whole number of frames" if key == "sequence_length" else "a number from 0"
    raise UserError(f"{where}: {key} is {quoted(value)}: {expected} is expected")


def whole_window(tree: dict[str, Any], chunk_len: int) -> dict[str, Any]:
    """A window that was given in frames, in chunks. Without a chunk_len in the tree, chunks are as long as divides it:
    8 to 12 frames, near to 10."""
    data = tree.get("data")
    frames = data.get("window") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(frames, Frames):
        return tree
    dividing = [length for length in (10, 9, 11, 8, 12) if frames % length == 0]
    length = data.get("chunk_len", dividing[0] if dividing else chunk_len)
    digits = length if isinstance(length, str) else quoted(length)
    if not digits.isdecimal() or len(digits) > 9 or int(digits) == 0:
        return {**tree, "data": {**data, "window": 1}}  # chunk_len has an error of its own
    if frames % int(length):
        advice = f"data.chunk_len={dividing[0]} would do" if dividing else "give another one of the two"
        raise UserError(
            f"sequence_length is {frames}, no multiple of data.chunk_len {length}: a window is whole chunks; {advice}"
        )
    return {**tree, "data": {**data, "chunk_len": int(length), "window": frames // int(length)}}
