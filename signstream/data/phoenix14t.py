"""PHOENIX-2014-T's layout: sentences in tables, MediaPipe's keypoints and SigLIP's features an npy file a clip.

<root>/annotations/PHOENIX-2014-T.{train,dev,test}.corpus.csv     name|video|start|end|speaker|orth|translation
<root>/kpts/<split>/<name>.npy                                    [T, 75, 3] x, y, z; 25 frames a second
<root>/siglip_vitb16/<split>/<name>.npy                           [180, 768]; need not be there; visual.py reads it

The split `dev` is our `val`. Of a table only `name` and `translation` must be there; `orth` is the gloss, `speaker` the
signer. Nothing is quoted, and no word stands for a gap: NA is a word.

What is in kpts, and what is done with it:

- The public extraction looked at mirrored pictures. So x is negated, and since MediaPipe then took the signer's right
  side for the left one, the sides change places too.
- x and y are shares of the picture's width and height, from the middle of the hips, over the distance of the shoulders.
  They become pixels of a picture of 210 x 260, PHOENIX's own, which alone makes a shoulder as wide as it is; HIPS and
  SHOULDERS say where a signer stands and how large, the same for every clip, as what they were is in no file.
- A joint that was never seen was written as 0 before all of this: it lies on one point with every other such joint, in
  each frame. MediaPipe finds all of a hand or nothing, so there are always others: joints that lie on one point all
  the clip long are missing. What was seen only in some frames was filled in by straight lines, and cannot be told.
- How visible a joint is was not kept: what is there scores 1. MediaPipe also says where it thinks that legs are, and no
  picture of PHOENIX shows any: knees, ankles and feet are missing, as in the phoenix2014 layout.
- z is of no further use.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from signstream.config import Poses
from signstream.data.datasets import Clip, PoseData
from signstream.data.holistic import BODY_POINTS
from signstream.data.joints75 import NUM_POINTS, coco_joints
from signstream.errors import UserError, odd_character
from signstream.io.pose_files import Shape, npy_frames, read_npy
from signstream.skeleton import COCO_FLIP, FACE, NUM_JOINTS
from signstream.text_files import read_text

SPLITS = {"train": "train", "val": "dev", "test": "test"}  # ours -> theirs
ANNOTATIONS, KEYPOINTS = "annotations", "kpts"
COLUMNS = ("name", "video", "start", "end", "speaker", "orth", "translation")
NEEDED = ("name", "translation")
SIZE = (210.0, 260.0)  # of PHOENIX's pictures
HIPS = (105.0, 240.0)  # where their middle is put, in pixels: a nose is then about 60 below the upper edge
SHOULDERS = 84.0  # pixels between them; two fifths of the picture's width
LEGS = slice(BODY_POINTS.index("left_knee"), FACE)  # of the 133
FPS = 25.0
LARGEST_TABLE = 1 << 24  # bytes; PHOENIX's largest has less than two millions
LONGEST = 10_000  # characters of a line


class Row(NamedTuple):
    """What a table says of a clip."""

    text: str
    gloss: str
    signer: str


class Table(NamedTuple):
    """A split: its clips' names in their order, and what is said of each."""

    names: list[str]
    rows: dict[str, Row]


class Phoenix14T(PoseData):
    def __init__(self, data: Poses) -> None:
        super().__init__(data)
        if data.num_joints != NUM_JOINTS:
            raise UserError(
                f"data.num_joints is {data.num_joints}: PHOENIX-2014-T's keypoints are read as "
                f"COCO-WholeBody's {NUM_JOINTS} joints"
            )
        paths = {split: self.table_path(split) for split in SPLITS}
        self.tables = {split: read_corpus(path, self.root) for split, path in paths.items() if path.exists()}
        if not self.tables:
            raise UserError(
                f"data.root {self.root} has none of {ANNOTATIONS}/PHOENIX-2014-T.train.corpus.csv, .dev.corpus.csv, "
                ".test.corpus.csv: that is where the phoenix14t layout keeps its sentences; "
                "`python -m signstream.data.synthetic --layout phoenix14t --out DIR` makes such a data set"
            )

    def table_path(self, split: str) -> Path:
        return self.root / ANNOTATIONS / f"PHOENIX-2014-T.{SPLITS[split]}.corpus.csv"

    def path(self, split: str, name: str) -> Path:
        return self.root / KEYPOINTS / SPLITS[split] / f"{name}.npy"

    def splits(self) -> dict[str, list[str]]:
        return {split: table.names for split, table in self.tables.items()}

    def split_folder(self, split: str) -> str:
        return SPLITS[split]

    def files(self, split: str, name: str) -> list[Path]:
        return [self.path(split, name)]

    def sources(self) -> list[Path]:
        return [self.table_path(split) for split in SPLITS]

    def frames(self, split: str, name: str) -> int | None:
        return npy_frames(self.path(split, name))

    def load(self, split: str, name: str) -> Clip:
        row = self.tables[split].rows.get(name)
        if row is None:
            raise UserError("no annotation")
        points = read_npy(self.path(split, name), _check_points, within=self.root)
        if not np.isfinite(points).all():
            raise UserError("not finite")
        return Clip(name, pixels(points), fps=FPS, size=SIZE, text=row.text, gloss=row.gloss, signer=row.signer)


def _check_points(shape: Shape) -> None:
    if len(shape) != 3 or shape[1:] != (NUM_POINTS, 3):
        raise UserError(f"shape {list(shape)}: [T, {NUM_POINTS}, 3] is expected")


def pixels(points: np.ndarray) -> np.ndarray:
    """Keypoints [T, 75, 3] as the public extraction writes them -> [T, 133, 3] x px, y px, score."""
    marked = points.astype(np.float32)
    marked[..., 2] = seen(points)
    poses = coco_joints(marked)[:, list(COCO_FLIP)]
    with np.errstate(over="ignore"):  # what is too far away is missing: the checks of every clip say so
        poses[..., 0] = HIPS[0] - SHOULDERS * poses[..., 0]
        poses[..., 1] = HIPS[1] + SHOULDERS * SIZE[1] / SIZE[0] * poses[..., 1]
    poses[:, LEGS, 2] = 0
    return np.where(poses[..., 2:] > 0, poses, np.float32(0))


def seen(points: np.ndarray) -> np.ndarray:
    """[T, 75, 3] -> [75] bool: which joints do not lie on one point with another, all the clip long."""
    ways = [way.tobytes() for way in np.moveaxis(points, 1, 0) + 0.0]  # -0 and 0 are one point
    counts = Counter(ways)
    return np.array([counts[way] == 1 for way in ways])


def read_corpus(path: Path, within: Path | None = None) -> Table:
    """A table, or one line that says which of its lines is wrong; `within`: the folder that links may not lead out
    of."""
    try:
        text = read_text(path, most=LARGEST_TABLE, within=within, errors="surrogateescape")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {'|'.join(COLUMNS)} is expected there") from None
    lines = [(number, line) for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1) if line.strip()]
    if len(lines) < 2:
        raise UserError(f"{path} has no clip: a header, {'|'.join(COLUMNS)}, and a line a clip are expected there")
    columns = _cells(path, *lines[0])
    if len(set(columns)) < len(columns) or not {*NEEDED} <= {*columns}:
        raise UserError(f"{path}, line {lines[0][0]}: names of columns, {'|'.join(COLUMNS)}, are expected, each once")
    table = Table([], {})
    for number, line in lines[1:]:
        cells = _cells(path, number, line)
        if len(cells) != len(columns):
            raise UserError(
                f"{path}, line {number}: {len(cells)} columns; {len(columns)} are expected, as the header names"
            )
        row = dict(zip(columns, cells))
        table.names.append(row["name"])
        table.rows.setdefault(
            row["name"], Row(row["translation"], gloss=row.get("orth", ""), signer=row.get("speaker", ""))
        )
    return table


def _cells(path: Path, number: int, line: str) -> list[str]:
    """A line's cells, one space between words."""
    cells = [" ".join(cell.split()) for cell in line.split("|")]
    fault = f"{len(line)} characters; {LONGEST} at most are" if len(line) > LONGEST else ""
    if odd := next(filter(None, map(odd_character, cells)), None):
        fault = f"it holds the character {odd}; UTF-8 text is"
    if fault:
        raise UserError(f"{path}, line {number}: {fault} expected")
    return cells
