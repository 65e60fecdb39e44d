"""A data set of synthetic signers in PHOENIX-2014-T's layout: sentences in tables, keypoints as MediaPipe's extraction
writes them.

    make_phoenix14t(out, clips, seed, visual=False)        extracted(poses [T, 133, 3]) -> [T, 75, 3]

Out come annotations/PHOENIX-2014-T.{train,dev,test}.corpus.csv and kpts/<split>/<name>.npy, and with visual=True
siglip_vitb16/<split>/<name>.npy, which visual.py makes. A seed's sentences, people, looks and movements are those of
phoenix.py. The same arguments give the same bytes, whatever the number of workers. numpy, and Pillow for visual=True.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from signstream.data.joints75 import LEFT_HIP, LEFT_SHOULDER, RIGHT_HIP, RIGHT_SHOULDER, points_of
from signstream.data.synthetic.detector import SIZE, detect
from signstream.data.synthetic.drawing_look import Look
from signstream.data.synthetic.orders import Cast, Order, generator, write_all
from signstream.data.synthetic.performance import perform
from signstream.data.synthetic.phoenix import SPLITS, looks_of, planned
from signstream.data.synthetic.visual import visual_rows
from signstream.io.whole import whole_folder
from signstream.skeleton import COCO_FLIP

COLUMNS = "name|video|start|end|speaker|orth|translation"
KEYPOINTS, VISUAL = "kpts", "siglip_vitb16"
WIDTH = SIZE * 210 / 260  # pixels, out of the detector's picture: as wide as PHOENIX's for its height
README = """# A synthetic signer, in PHOENIX-2014-T's layout

These data are made up: no person signed them. Made with
`python -m signstream.data.synthetic --layout phoenix14t --out DIR --clips {clips} --seed {seed} --signers {signers} \
--glosses {glosses} --fps {fps:g}{more}`.

- `annotations/PHOENIX-2014-T.<split>.corpus.csv`: `{columns}`, nothing quoted; video, start and end say nothing
- `kpts/<split>/<name>.npy`: float32, [T, 75, 3], x, y, z, {fps:g} frames a second: body 0-32, left hand 33-53, right \
hand 54-74
{about_visual}
The keypoints are a made-up detector's, written as the public extraction writes MediaPipe's: from mirrored pictures of
210 to 260 (so what is called left is the signer's right), as shares of width and height, from the middle of the hips,
over the distance of the shoulders. What was lost for some frames lies on a straight line; what was never seen was 0
before the hips were subtracted, as the body's own three knuckles of each hand always are. z is 0.

dev and test hold sentences that are not in train, by signers who are. Glosses have no marks.
"""
ABOUT_VISUAL = """- `siglip_vitb16/<split>/<name>.npy`: float32, [180, 768], and **not SigLIP's features**, \
whose place they take

No model saw these frames. As many evenly spread frames as there are rows (repeated in shorter clips) were drawn at
32 x 32; what sets each apart from the mean of its clip was projected onto 768 fixed random directions and scaled to
about unit variance. So everything runs with nothing downloaded; results on them say nothing of results on SigLIP's.
"""


class Filmed(NamedTuple):
    """A clip's joints [T, 133, 3] in shoulder widths, and what the detector says of them, [T, 133, 3] x px, y px,
    score: a lost hand is (0, 0, 0)."""

    joints: np.ndarray
    poses: np.ndarray


@dataclass(frozen=True)
class Scene:
    """What all clips of a data set share; looks: empty where nothing is drawn."""

    cast: Cast
    looks: tuple[Look, ...]
    root: Path


def filmed(cast: Cast, order: Order) -> Filmed:
    signer, rng = cast.signers[order.signer], generator(cast.seed, order.index, 5)
    played = perform(order.sentence, cast.signs, signer, rng=rng, fps=cast.fps)
    return Filmed(played.joints, detect(played.joints, signer, rng, fps=cast.fps, zeros=1))


def extracted(poses: np.ndarray) -> np.ndarray:
    """[T, 133, 3] x px, y px, score -> [T, 75, 3] float32 as the public extraction would write it."""
    mirrored = poses[:, list(COCO_FLIP)].astype(np.float64)
    mirrored[..., 0] = 0.5 - (mirrored[..., 0] - SIZE / 2) / WIDTH
    mirrored[..., 1] /= SIZE
    points = points_of(mirrored)
    found = points[..., 2] > 0
    points[..., 2] = 0
    return normalised(filled(points, found), np.any(found, axis=0)).astype(np.float32)


def filled(points: np.ndarray, found: np.ndarray) -> np.ndarray:
    """points [T, 75, 3], found [T, 75] -> [T, 75, 3]: straight lines over the frames that lack a joint, its first and
    last place held; 0 where it was never found."""
    whole = np.zeros_like(points)
    for joint in np.flatnonzero(found.any(0)):
        frames = np.flatnonzero(found[:, joint])
        for axis in range(points.shape[-1]):
            whole[:, joint, axis] = np.interp(np.arange(len(points)), frames, points[frames, joint, axis])
    return whole


def normalised(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    """points [T, 75, 3], known [75] -> [T, 75, 3]: from the middle of the hips (of the shoulders where no hips are
    known), over the distance of the shoulders (1 where there is none), frame by frame."""
    pairs = [list(pair) for pair in ((LEFT_HIP, RIGHT_HIP), (LEFT_SHOULDER, RIGHT_SHOULDER)) if known[list(pair)].all()]
    centre = points[:, pairs[0]].mean(1, keepdims=True) if pairs else 0.0
    width = np.linalg.norm(points[:, LEFT_SHOULDER] - points[:, RIGHT_SHOULDER], axis=-1)
    return (points - centre) / np.where(width < 1e-6, 1.0, width)[:, None, None]


def _write_clip(scene: Scene, order: Order) -> None:
    clip, file = filmed(scene.cast, order), Path(order.split, f"{order.name}.npy")
    np.save(scene.root / KEYPOINTS / file, extracted(clip.poses))
    if scene.looks:
        rows = visual_rows(clip.joints, scene.cast.signers[order.signer], scene.looks[order.signer])
        np.save(scene.root / VISUAL / file, rows)


def _line(order: Order) -> str:
    signer = f"Signer{order.signer + 1:02d}"
    return f"{order.name}|{order.name}/1/*.png|-1|-1|{signer}|{order.sentence.key}|{order.sentence.text}\n"


def _readme(scene: Scene, clips: int, near: bool) -> str:
    cast, drawn = scene.cast, bool(scene.looks)
    return README.format(
        clips=clips,
        seed=cast.seed,
        signers=len(cast.signers),
        glosses=len(cast.signs),
        fps=cast.fps,
        columns=COLUMNS,
        more=" --visual" * drawn + " --text near" * near,
        about_visual=ABOUT_VISUAL if drawn else "",
    )


def make_phoenix14t(
    out: str | Path,
    clips: int,
    seed: int = 0,
    *,
    signers: int = 9,
    glosses: int | None = None,
    fps: float = 25.0,
    workers: int = 1,
    visual: bool = False,
    near: bool = False,
    quiet: bool = True,
) -> Path:
    """Writes the data set to `out`, which must not exist or be empty, and returns its path."""
    out = Path(out)
    cast, orders = planned(clips, seed, signers, glosses=glosses, fps=fps, workers=workers, near=near)
    with whole_folder(out) as root:
        (root / "annotations").mkdir()
        for split in SPLITS:
            for folder in (KEYPOINTS, VISUAL)[: 1 + visual]:
                (root / folder / split).mkdir(parents=True)
            lines = [f"{COLUMNS}\n", *(_line(order) for order in orders if order.split == split)]
            table = root / "annotations" / f"PHOENIX-2014-T.{split}.corpus.csv"
            table.write_text("".join(lines), encoding="utf-8")
        scene = Scene(cast, looks_of(cast) if visual else (), root)
        write_all(partial(_write_clip, scene), orders, workers=workers, quiet=quiet, together=1 if visual else 8)
        (root / "README.md").write_text(_readme(scene, clips, near), encoding="utf-8")
    return out
