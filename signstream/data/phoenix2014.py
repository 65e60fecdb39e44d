"""PHOENIX-2014's layout: a folder of pictures a clip, labels in pickled tables, keypoints in one pickle.

<root>/features/fullFrame-256x256px/<split>/<fileid>/1/*.png     25 frames a second; they need not be there for poses
<data.meta_dir>/{train,dev,test}_info.npy     {number: {fileid, folder, signer, label, num_frames}}, and the `prefix`
                                              of whoever wrote it, which is ignored for our root
<data.keypoints>                              {key: {"keypoints": [T, 121, 3]}}, pixels of the 256 x 256 frame
gloss_dict.npy                                {gloss: [index, count]}: read_gloss_dict(path)

The split `dev` is our `val`. A clip's gloss is its label as it stands there, one space between words: raw in train,
cleaned in the other two (signstream/glosses.py has the rules).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from signstream.config import Poses
from signstream.data.datasets import Clip, FrameFiles, PoseData, name_fault
from signstream.data.phoenix_joints import NUM_PHOENIX, coco_joints, keypoints_key
from signstream.errors import UserError, odd_character
from signstream.io.frame_files import list_frames
from signstream.io.pickle_machine import Array
from signstream.io.pickles import Pickled, read_object_npy, read_pickle
from signstream.skeleton import NUM_JOINTS

SPLITS = {"train": "train", "val": "dev", "test": "test"}  # ours -> theirs
FEATURES = "features/fullFrame-256x256px"
SUFFIX = "/*.png"
SIZE = (256.0, 256.0)  # of the frames whose pixels the keypoints are in
FPS = 25.0
KEYPOINTS = "keypoints_256x256.pkl"
INFO = "{number: {fileid, folder, signer, label, num_frames}}"
LONGEST_SIGNER = 240  # characters of a name
MOST_WORDS = 1000  # of a label; PHOENIX-2014's longest has 28


class Entry(NamedTuple):
    """What a table says of a clip."""

    folder: str  # of its frames, below the features
    signer: str
    gloss: str
    frames: int | None


@dataclass(frozen=True)
class Gloss:
    index: int
    count: int


class Phoenix2014(PoseData):
    def __init__(self, data: Poses) -> None:
        super().__init__(data)
        if data.num_joints != NUM_JOINTS:
            raise UserError(
                f"data.num_joints is {data.num_joints}: PHOENIX-2014's keypoints are read as "
                f"COCO-WholeBody's {NUM_JOINTS} joints"
            )
        self.meta = Path(data.meta_dir) if data.meta_dir else self.root
        self.within = None if data.meta_dir else self.root  # a folder that the user names may lie anywhere
        self.features = self.root / FEATURES
        self.has_frames = self.features.is_dir()
        self.tables = {ours: self._table(path) for ours in SPLITS if (path := self.info_path(ours)).exists()}
        if not self.tables:
            raise UserError(
                f"{'data.meta_dir' if data.meta_dir else 'data.root'} {self.meta} has none of train_info.npy, "
                "dev_info.npy, test_info.npy: that is where the phoenix2014 layout keeps its labels; "
                "`python -m signstream.data.synthetic --layout phoenix2014 --out DIR` makes such a data set"
            )
        self.keypoints = Path(data.keypoints) if data.keypoints else self.root / KEYPOINTS
        self.poses = self._read_keypoints(named=bool(data.keypoints))

    def info_path(self, split: str) -> Path:
        return self.meta / f"{SPLITS[split]}_info.npy"

    def splits(self) -> dict[str, list[str]]:
        return {split: table.names for split, table in self.tables.items()}

    def split_folder(self, split: str) -> str:
        return SPLITS[split]

    def files(self, split: str, name: str) -> list[Path]:
        entry = self.tables[split].entries.get(name)
        return [self.features / entry.folder] if self.has_frames and isinstance(entry, Entry) else []

    def sources(self) -> list[Path]:
        return [*map(self.info_path, SPLITS), self.keypoints]

    def frames(self, split: str, name: str) -> int | None:
        entry = self.tables[split].entries.get(name)
        return entry.frames if isinstance(entry, Entry) else None

    def entry(self, split: str, name: str) -> Entry:
        entry = self.tables[split].entries.get(name, "no annotation")
        if isinstance(entry, str):
            raise UserError(entry)
        return entry

    def load(self, split: str, name: str) -> Clip:
        entry = self.entry(split, name)
        if self.poses is None:
            raise UserError(f"no keypoints: there is no {KEYPOINTS} in the data's root, and data.keypoints names none")
        found = self.poses.value.get(keypoints_key(SPLITS[split], name))
        if not isinstance(found, dict) or not isinstance(found.get("keypoints"), Array):
            raise UserError("no keypoints: their pickle has no array for it")
        array = found["keypoints"]
        if len(array.shape) != 3 or array.shape[1:] != (NUM_PHOENIX, 3):
            raise UserError(f"shape {list(array.shape)}: [T, {NUM_PHOENIX}, 3] is expected")
        self._check_count(entry, array.shape[0], "keypoints")
        if self.has_frames:
            self._check_count(entry, len(list_frames(self.features / entry.folder, self.root)), "frames")
        with np.errstate(over="ignore", invalid="ignore"):
            poses = self.poses.array(array).astype(np.float32)
        return Clip(name, coco_joints(poses), fps=FPS, size=SIZE, gloss=entry.gloss, signer=entry.signer)

    def frame_files(self, split: str, name: str) -> FrameFiles:
        entry = self.entry(split, name)
        paths = list_frames(self.features / entry.folder, self.root)
        self._check_count(entry, len(paths), "frames")
        return FrameFiles(paths, entry.gloss, entry.signer, SIZE)

    def _check_count(self, entry: Entry, count: int, what: str) -> None:
        if self.data.check_num_frames and entry.frames not in (None, count):
            raise UserError(f"num_frames: the annotation says {entry.frames}, there are {count} {what}")

    def _table(self, path: Path) -> Table:
        return _table_of(_read_npy(path, self.within, INFO), path)

    def _read_keypoints(self, named: bool) -> Pickled | None:
        """Their table; the numbers stay in the file. None where there is no file and none was named."""
        if not named and not self.keypoints.exists():
            return None
        expected = "{key: {'keypoints': array}} is expected there"
        try:
            pickled = read_pickle(self.keypoints, None if named else self.root)
        except UserError as error:
            raise UserError(f"cannot read {self.keypoints}: {error}; {expected}") from None
        if not isinstance(pickled.value, dict):
            raise UserError(f"{self.keypoints} holds no table: {expected}")
        return pickled


class Table(NamedTuple):
    """A split: the clips' names in their order, whatever they are, and each one's entry, or why it has none."""

    names: list[Any]
    entries: dict[str, Entry | str]


def _read_npy(path: Path, within: Path | None, expected: str) -> dict[Any, Any]:
    try:
        value = read_object_npy(path, within).value
    except UserError as error:
        raise UserError(f"cannot read {path}: {error}; {expected} is expected there") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no table: {expected} is expected there")
    return value


def _table_of(value: dict[Any, Any], path: Path) -> Table:
    names: list[Any] = []
    entries: dict[str, Entry | str] = {}
    for key, note in value.items():
        if key == "prefix":
            continue
        name = note.get("fileid") if isinstance(note, dict) else None
        names.append(name if isinstance(name, str) else f"entry {key}")
        entries.setdefault(names[-1], _entry_of(note) if isinstance(name, str) else "annotation: no fileid")
    if not names:
        raise UserError(f"{path} has no clip: {INFO} is expected there")
    return Table(names, entries)


def _entry_of(note: dict[Any, Any]) -> Entry | str:
    """The entry, or why there is none."""
    folder, label, count = note.get("folder"), note.get("label"), note.get("num_frames")
    if not isinstance(folder, str) or not isinstance(label, str):
        return "annotation: its folder and its label are expected"
    if not folder.endswith(SUFFIX):
        return f"folder: <split>/<fileid>/1{SUFFIX} is expected"
    folder = folder.removesuffix(SUFFIX)
    if any(name_fault(part) for part in folder.split("/")):
        return "unsafe folder: it would lead out of the features"
    words = label.split()
    if len(words) > MOST_WORDS:
        return f"label: {len(words)} words"
    if any(odd_character(word) for word in words):
        return "label: it holds an odd character"
    signer = "" if note.get("signer") is None else str(note["signer"])
    if odd_character(signer) or len(signer) > LONGEST_SIGNER:
        return "signer: a short name is expected"
    frames = count if type(count) is int and count >= 0 else None
    return Entry(folder, signer, " ".join(words), frames)


def read_gloss_dict(path: Path, within: Path | None = None) -> dict[str, Gloss]:
    """{gloss: its index, from 1, and how often it stands in all three splits}."""
    expected = "{gloss: [index, count]}"
    table = _read_npy(path, within, expected)
    glosses = {}
    for gloss, entry in table.items():
        sound = isinstance(entry, list) and len(entry) == 2 and all(type(n) is int for n in entry)
        if not isinstance(gloss, str) or gloss.split() != [gloss] or odd_character(gloss) or not sound:
            raise UserError(f"{path} has an entry that is no gloss's: {expected} is expected")
        glosses[gloss] = Gloss(*entry)
    if not glosses or sorted(entry.index for entry in glosses.values()) != list(range(1, len(glosses) + 1)):
        raise UserError(f"{path}: the indices are not 1 to {len(glosses)}, each once")
    return glosses
