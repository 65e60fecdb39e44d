"""A signer as a camera would see one: joints in, pictures out.

    for picture in draw_clip(joints, signer, look, rng=rng): ...      joints [T, 133, 3] -> T PIL images, 256 x 256 RGB
    for picture in draw_small(joints, signer, look): ...             32 x 32 RGB, without grain, several times as fast

The body is drawn as filled outlines on a larger canvas and made smaller; the light of the room and the camera's grain
come last. Joints of the pictures are those of detector.project, halved. Pillow and numpy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from signstream.data.synthetic.drawing_body import body_groups
from signstream.data.synthetic.drawing_head import head_groups
from signstream.data.synthetic.drawing_look import Look
from signstream.data.synthetic.drawing_shapes import PICTURE, Group, View
from signstream.data.synthetic.signer import Signer

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SCALE = 3  # the canvas, in pictures
SMALL, SMALL_SCALE = 32, 4  # a small picture's width and height, and its canvas, in small pictures
# The camera's grain: how strong, in 0..255, and how many pixels high and wide; rows that repeat make PNGs small.
GRAIN, GRAIN_HIGH, GRAIN_WIDE = 0.8, 4, 2
STEP = 8  # pixels, in which light changes
MIDDLE = 16  # what the grain is stored around


def _grid() -> np.ndarray:
    """[2, 256, 256] y and x as shares of the picture, in steps that are too small to be seen and make PNGs small."""
    steps = (np.mgrid[: PICTURE // STEP, : PICTURE // STEP] + 0.5) * STEP / PICTURE
    return steps.repeat(STEP, 1).repeat(STEP, 2)


def _wall(look: Look) -> np.ndarray:
    """[256, 256, 3] the wall behind: lighter where the lamp is, with an edge where another shade begins."""
    y, x = _grid()
    lamp = np.exp(-(((x - 0.5 - 0.5 * look.light[0]) / 0.8) ** 2) - ((y - 0.25) / 0.9) ** 2)
    share = 0.80 + 0.34 * lamp
    begin, lighter = look.panel
    return np.clip((share + np.where(x > begin, lighter, 0))[..., None] * look.wall, 0, 255)


def _room(look: Look) -> np.ndarray:
    """[256, 256, 3] in 0..1: what of the light arrives where."""
    y, x = _grid()
    toward = (x - 0.5) * np.sign(look.light[0])
    corner = (x - 0.5) ** 2 + (y - 0.5) ** 2
    return np.clip((1 - look.contrast * (0.5 - toward) - 0.15 * corner)[..., None] * look.tint, 0, 1)


def _grain(rng: np.random.Generator) -> np.ndarray:
    """[512, 512] to cut a picture's grain from."""
    small = np.rint(rng.normal(0, GRAIN, (2 * PICTURE // GRAIN_HIGH, 2 * PICTURE // GRAIN_WIDE))) + MIDDLE
    return np.clip(small, 0, 2 * MIDDLE).astype(np.uint8).repeat(GRAIN_HIGH, 0).repeat(GRAIN_WIDE, 1)


def _listed(groups: list[Group]) -> list[list[tuple[list[Any], list[Any], list[bool] | None]]]:
    """Groups of shapes as lists, which drawing is given one frame at a time."""
    listed = []
    for group in groups:
        shapes = []
        for outline, colour, shown in group.shapes:
            frames = len(outline)
            points = np.rint(outline).astype(int).reshape(frames, -1).tolist()
            inks = np.broadcast_to(np.rint(colour).astype(int), (frames, 3)).tolist()
            shapes.append((points, [tuple(ink) for ink in inks], None if shown is None else shown.tolist()))
        listed.append(shapes)
    return listed


def _canvases(view: View, joints: np.ndarray, look: Look) -> Iterator[Picture]:
    """The person before the wall, frame by frame, before light and grain."""
    from PIL import Image, ImageDraw

    groups = body_groups(view, joints, look) + head_groups(view, joints, look)
    order = np.argsort(np.stack([group.rank for group in groups], 1), axis=1, kind="stable").tolist()
    listed = _listed(groups)
    side = round(PICTURE * view.scale)
    wall = Image.fromarray(_wall(look).astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
    for frame, groups_in_order in enumerate(order):
        canvas = wall.copy()
        polygon = ImageDraw.Draw(canvas).polygon
        for group in groups_in_order:
            for points, inks, shown in listed[group]:
                if shown is None or shown[frame]:
                    polygon(points[frame], inks[frame])
        yield canvas


def draw_clip(joints: np.ndarray, signer: Signer, look: Look, *, rng: np.random.Generator) -> Iterator[Picture]:
    """joints [T, 133, 3] in shoulder widths, as performance.py has them."""
    from PIL import Image, ImageChops

    room = Image.fromarray(np.rint(255 * _room(look)).astype(np.uint8))
    grain = Image.fromarray(_grain(rng)).convert("RGB")
    corners = rng.integers(0, PICTURE // GRAIN_HIGH // 2, (len(joints), 2)) * (GRAIN_WIDE, GRAIN_HIGH)
    canvases = _canvases(View(signer, look.light, SCALE), joints, look)
    for canvas, (x, y) in zip(canvases, corners.tolist()):
        picture = ImageChops.multiply(canvas.reduce(SCALE), room)
        yield ImageChops.add(picture, grain.crop((x, y, x + PICTURE, y + PICTURE)), offset=-MIDDLE)


def draw_small(joints: np.ndarray, signer: Signer, look: Look) -> Iterator[Picture]:
    """The same person in the same light; what a frame looks like depends on no other frame."""
    from PIL import Image, ImageChops

    room = Image.fromarray(np.rint(255 * _room(look)).astype(np.uint8)).reduce(PICTURE // SMALL)
    for canvas in _canvases(View(signer, look.light, SMALL * SMALL_SCALE / PICTURE), joints, look):
        yield ImageChops.multiply(canvas.reduce(SMALL_SCALE), room)
