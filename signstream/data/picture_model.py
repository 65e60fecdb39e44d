"""A published SigLIP's vision model, of transformers' own class: pictures to a row each.

    model = open_model("google/siglip-base-patch16-224", "auto")        nothing is fetched (published.py)
    model.rows([N, H, W, 3] uint8) -> [N, width] float32                its pooler_output
    model.about() -> plain values: the digest of its weights, width, and what is done to a picture

Pictures are made ready as its preprocessor_config.json says: resized by Pillow, scaled, normalised.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch

from signstream.errors import UserError, shown
from signstream.io.tables import read_table
from signstream.published import Kind, digest_of, pretrained, transformers_package, whole_files

SIGLIP = Kind(
    what="the picture model",
    many="picture features",
    one="a SigLIP",
    opener="SiglipVisionModel",
    types=("siglip", "siglip_vision_model"),
)
PICTURES = "preprocessor_config.json"
STEPS = ("do_resize", "do_rescale", "do_normalize")
LARGEST_SIDE = 2048  # pixels
SMALLEST, LARGEST = 1e-6, 1e6  # of what pictures are scaled by


class Ready(NamedTuple):
    """What is done to a picture."""

    side: int
    resample: int  # Pillow's number of the filter
    scale: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


class PictureModel:
    def __init__(self, siglip: Any, ready: Ready, device: torch.device) -> None:
        self.siglip, self.ready, self.device = siglip.eval().to(device), ready, device
        self.width = int(siglip.config.hidden_size)

    def about(self) -> dict[str, Any]:
        ready = {**self.ready._asdict(), "mean": [*self.ready.mean], "deviation": [*self.ready.deviation]}
        weights = {name.removeprefix("vision_model."): weight for name, weight in self.siglip.named_parameters()}
        return {"digest": digest_of(weights), "width": self.width, "pictures": ready}

    def rows(self, pictures: np.ndarray) -> np.ndarray:
        """[N, H, W, 3] uint8 -> [N, width] float32."""
        pixels = torch.from_numpy(made_ready(pictures, self.ready)).to(self.device)  # [N, 3, side, side]
        with torch.inference_mode():
            rows = self.siglip(pixel_values=pixels).pooler_output
        return rows.float().cpu().numpy()


def made_ready(pictures: np.ndarray, ready: Ready) -> np.ndarray:
    """[N, H, W, 3] uint8 -> [N, 3, side, side] float32."""
    try:
        from PIL import Image
    except ImportError:
        raise UserError("pictures need the package pillow (pip install pillow)") from None
    size = (ready.side, ready.side)
    resized = [Image.fromarray(picture).resize(size, Image.Resampling(ready.resample)) for picture in pictures]
    scaled = np.stack([np.asarray(picture) for picture in resized]) * np.float32(ready.scale)
    normal = (scaled - np.array(ready.mean, np.float32)) / np.array(ready.deviation, np.float32)
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2))


def open_model(name: str, device: str) -> PictureModel:
    chosen = pick_device(device)
    transformers_package(SIGLIP.many)
    files = whole_files(name, SIGLIP, "config.json", PICTURES)
    ready = read_ready(Path(files[PICTURES]))
    siglip = _quietly(name)
    if siglip.config.image_size != ready.side:
        raise UserError(
            f"the picture model {shown(name)} looks at {shown(siglip.config.image_size)} pixels a side and its "
            f"{PICTURES} says {ready.side}: not a pair"
        )
    if not getattr(siglip.config, "vision_use_head", True):
        raise UserError(f"the picture model {shown(name)} has no pooling head, so it gives no row for a picture")
    return PictureModel(siglip, ready, chosen)


def _quietly(name: str) -> Any:
    """Of a whole SigLIP the text side is left out, which transformers would list weight by weight."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return pretrained(name, SIGLIP)
    finally:
        logging.set_verbosity(before)


def pick_device(device: str) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; leave the option out, or say cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def read_ready(path: Path) -> Ready:
    """From a published file, which may say anything."""
    table = read_table(path, "an object of size, resample, rescale_factor, image_mean, image_std")
    for step in STEPS:
        if table.get(step, True) is not True:
            raise UserError(f"{path}: {step} is {shown(table[step])}: true is expected of a SigLIP")
    if table.get("do_center_crop"):
        raise UserError(f"{path}: do_center_crop is {shown(table['do_center_crop'])}: false is expected of a SigLIP")
    size = table.get("size")
    side = size.get("height") if isinstance(size, dict) and size.get("height") == size.get("width") else size
    if type(side) is not int or not 0 < side <= LARGEST_SIDE:
        raise UserError(f"{path}: size is {shown(size)}: a height and a width that are the same are expected")
    resample = table.get("resample", 3)
    if type(resample) is not int or not 0 <= resample <= 5:
        raise UserError(f"{path}: resample is {shown(resample)}: a filter of Pillow's, 0 to 5, is expected")
    scale, mean, deviation = table.get("rescale_factor", 1 / 255), table.get("image_mean"), table.get("image_std")
    if (
        not _are_numbers([scale], 1)
        or not _are_numbers(mean, 3)
        or not _are_numbers(deviation, 3)
        or min(map(abs, deviation)) < SMALLEST
    ):
        raise UserError(f"{path}: rescale_factor and three numbers each as image_mean and image_std are expected")
    return Ready(side, resample, float(scale), tuple(map(float, mean)), tuple(map(float, deviation)))


def _are_numbers(values: Any, count: int) -> TypeGuard[list[float]]:
    listed = isinstance(values, list) and len(values) == count
    return listed and all(type(value) in (int, float) and abs(value) <= LARGEST for value in values)
