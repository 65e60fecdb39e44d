"""Who finds a person's 133 joints in a picture: MediaPipe Holistic, or whatever is called like it.

    see = open_estimator()
    see(picture [H, W, 3] uint8 RGB) -> [133, 3] float32: x px, y px, score; a joint that is missing is 0, 0, 0
    see.reset()                         before another person or clip: what was tracked is forgotten
    see.close()

One person is returned, and Holistic chooses which. A body joint scores how visible Holistic finds it, face and hands 1
where they are found, and what lies outside of the picture, where Holistic only continues the body, is missing. "Left"
is the signer's own left. The package mediapipe is imported where it is used and downloads nothing: its wheel holds the
models of complexity 1, those of 0 and 2 have to lie on this machine.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple, Protocol

import numpy as np

from signstream.data.holistic import HAND_LANDMARKS, HOLISTIC
from signstream.errors import UserError, first_line
from signstream.skeleton import NUM_JOINTS

WANTED = "mediapipe==0.10.14"  # later ones ship no models, and then no Holistic
MODELS = ("pose_landmark_lite.tflite", "pose_landmark_full.tflite", "pose_landmark_heavy.tflite")  # by complexity
MODEL_FOLDER = Path("mediapipe", "modules", "pose_landmark")
BODY, FACE = "POSE_LANDMARKS", "FACE_LANDMARKS"  # of HOLISTIC


class Estimator(Protocol):
    def __call__(self, picture: np.ndarray) -> np.ndarray: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


class Library(NamedTuple):
    """What is used of mediapipe."""

    root: Path  # the folder that it lies in
    version: str
    solutions: ModuleType  # Holistic's module
    base: ModuleType  # the one that opens models


def open_estimator(*, complexity: int = 1, models: Path | None = None, refine_face: bool = False) -> Estimator:
    """MediaPipe Holistic. `models`: a folder with the model of that complexity, where mediapipe's own has it not."""
    return Holistic(estimator_library(), complexity, models, refine_face=refine_face)


def estimator_library() -> Library:
    warnings.filterwarnings("ignore", "SymbolDatabase.GetPrototype")  # mediapipe's use of protobuf, not ours
    try:
        with _quiet():
            import mediapipe
            from mediapipe.python import solution_base
            from mediapipe.python.solutions import holistic
    except ImportError:
        raise UserError(
            f"finding people in pictures needs the package mediapipe (pip install {WANTED}, Python 3.9 to 3.12)"
        ) from None
    return Library(Path(mediapipe.__file__).parents[1], mediapipe.__version__, holistic, solution_base)


class Holistic:
    """One person, followed from picture to picture."""

    def __init__(self, library: Library, complexity: int, models: Path | None = None, *, refine_face: bool) -> None:
        self.rows = _rows([point.name for point in library.solutions.PoseLandmark])
        self.files = ExitStack()
        check_model(library, complexity, models)
        self.root = self.files.enter_context(_model_root(library.root, MODELS[complexity], models))
        self.point_models = library.base.resource_util.set_resource_dir
        asked = SimpleNamespace(set_resource_dir=lambda _: self.point_models(self.root))
        offline = SimpleNamespace(download_oss_model=lambda _: None)
        try:
            with (
                _quiet(),
                _in_place(library.base, "resource_util", asked),
                _in_place(library.solutions, "download_utils", offline),
            ):
                self.graph = library.solutions.Holistic(model_complexity=complexity, refine_face_landmarks=refine_face)
                self.graph.process(np.zeros((64, 64, 3), np.uint8))  # returns when all models are open
        except (RuntimeError, ValueError, OSError) as error:
            self.files.close()
            raise UserError(f"MediaPipe's models cannot be opened: {first_line(error)}") from None
        self.stale = True

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        found = self._begin(picture) if self.stale else self.graph.process(picture)
        height, width = picture.shape[:2]
        joints = np.zeros((NUM_JOINTS, 3), np.float32)
        for component, rows in self.rows.items():
            landmarks = getattr(found, component.lower())
            if landmarks is not None:
                points = [landmarks.landmark[point] for point in rows.points]
                scores = [point.visibility if component == BODY else 1 for point in points]
                joints[rows.joints] = [(p.x * width, p.y * height, score) for p, score in zip(points, scores)]
        inside = (joints[:, :2] >= 0).all(1) & (joints[:, :2] <= (width, height)).all(1)
        joints[~inside | (joints[:, 2] <= 0)] = 0
        return joints

    def _begin(self, picture: np.ndarray) -> Any:
        """The models are opened anew, which takes until the first picture is done."""
        self.point_models(self.root)
        with _quiet():
            self.graph.reset()
            self.stale = False
            return self.graph.process(picture)

    def reset(self) -> None:
        self.stale = True

    def close(self) -> None:
        self.graph.close()
        self.files.close()


class Rows(NamedTuple):
    """Which of our joints are made of one component's points."""

    joints: list[int]
    points: list[int]


def _rows(body: list[str]) -> dict[str, Rows]:
    """By component; `body` has the names of its points in MediaPipe's order."""
    numbers: dict[str, Any] = {BODY: body.index, FACE: int}
    rows: dict[str, Rows] = {}
    for joint, point in enumerate(HOLISTIC):
        if point is not None:
            component, name = point
            joints, points = rows.setdefault(component, Rows([], []))
            joints.append(joint)
            points.append(numbers.get(component, HAND_LANDMARKS.index)(name))
    return rows


def check_model(library: Library, complexity: int, models: Path | None) -> Path:
    """Where the model of that complexity lies."""
    if not 0 <= complexity < len(MODELS):
        raise UserError(f"complexity {complexity}: 0, 1 or 2 are possible")
    name = MODELS[complexity]
    path = library.root / MODEL_FOLDER / name if models is None else models / name
    if path.is_file():
        return path
    if models is not None:
        raise UserError(f"--models {models} has no {name}, which complexity {complexity} needs")
    raise UserError(
        f"complexity {complexity} needs the model {name}, which is not in mediapipe's wheel and which nothing "
        "here downloads: put it into a folder and name that with --models, or take complexity 1"
    )


@contextmanager
def _model_root(own: Path, name: str, models: Path | None) -> Iterator[str]:
    """The folder under which MediaPipe finds all its models: its own, or one of links to those and to the one named."""
    if models is None:
        yield str(own)
        return
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / MODEL_FOLDER
        folder.mkdir(parents=True)
        for file in (*(own / MODEL_FOLDER.parent).iterdir(), *(own / MODEL_FOLDER).iterdir()):
            link = Path(root) / file.relative_to(own)
            if file.name != name and link != folder:
                link.symlink_to(file.resolve())
        (folder / name).symlink_to((models / name).resolve())
        yield root


@contextmanager
def _in_place(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    """The module with another `name` in it."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines that MediaPipe's C++ writes to standard error while it opens its models, of which none is about
    what the user does. What goes wrong is an exception all the same."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
