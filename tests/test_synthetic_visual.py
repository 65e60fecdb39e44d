"""What stands in for SigLIP's features in the synthetic phoenix14t layout: how many rows, of which frames, the same in
every process, read back, called what they are; and that they say something of the signing."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from data_sets import data_config
from signstream import cli
from signstream.data.even_frames import ROWS, indices
from signstream.data.synthetic.__main__ import main
from signstream.data.synthetic.drawing import draw_clip, draw_small
from signstream.data.synthetic.orders import Cast, Order, generator
from signstream.data.synthetic.phoenix import looks_of, planned
from signstream.data.synthetic.phoenix14t import filmed
from signstream.data.synthetic.visual import directions, projected, visual_rows
from signstream.data.visual import Visual
from signstream.skeleton import LEFT_HAND

CLIPS, SEED, SIGNERS = 6, 3, 3
OURS = {"train": "train", "dev": "val", "test": "test"}


def options(out: Path, *more: str, layout: str = "phoenix14t") -> list[str]:
    sizes = ["--clips", str(CLIPS), "--seed", str(SEED), "--signers", str(SIGNERS)]
    return ["--layout", layout, "--out", str(out), *sizes, *more]


def plan(fps: float = 25.0) -> tuple[Cast, list[Order]]:
    made = planned(CLIPS, SEED, SIGNERS, glosses=None, fps=fps, workers=1)
    return made.cast, made.orders


def joints_of(cast: Cast, order: Order) -> np.ndarray:
    return filmed(cast, order).joints


def rows_of(cast: Cast, order: Order, joints: np.ndarray) -> np.ndarray:
    return visual_rows(joints, cast.signers[order.signer], looks_of(cast)[order.signer])


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("made")
    kinds = {"plain": ["--workers", "1"], "one": ["--visual", "--workers", "1"], "two": ["--visual", "--workers", "2"]}
    for name, more in kinds.items():
        main(options(folder / name, *more))
    return {name: folder / name for name in kinds}


# -- the files


def test_rows_are_read_back_for_every_clip(made):
    visual = Visual.open(data_config(made["one"], layout="phoenix14t", fps=25), "siglip_vitb16")
    cast, orders = plan()
    for order in orders:
        rows = visual.rows(OURS[order.split], order.name)
        assert rows.shape == (ROWS, 768) and rows.dtype == np.float32
        assert np.array_equal(rows, rows_of(cast, order, joints_of(cast, order)))


def test_same_arguments_same_bytes_whatever_the_workers(made):
    plain, one, two = (digest(made[name]) for name in ("plain", "one", "two"))
    assert one == two and len(one) == len(plain) + CLIPS
    assert {name for name in plain if plain[name] != one[name]} == {"README.md"}


def test_the_readme_says_that_these_are_not_siglips_features(made):
    text = (made["one"] / "README.md").read_text(encoding="utf-8")
    assert "**not SigLIP's features**" in text and "No model saw these frames" in text and "--fps 25 --visual`" in text
    plain = (made["plain"] / "README.md").read_text(encoding="utf-8")
    assert "SigLIP" not in plain and "visual" not in plain and not (made["plain"] / "siglip_vitb16").exists()


@pytest.mark.parametrize("layout", ["csl_daily", "phoenix2014"])
def test_another_layout_gets_one_line(tmp_path, capsys, layout):
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: main(options(tmp_path / "set", "--visual", layout=layout)))
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and len(lines) == 1
    assert lines[0].startswith("error: --visual is for --layout phoenix14t alone")
    assert not list(tmp_path.iterdir())


# -- the frames


@pytest.mark.parametrize(("first", "frames"), [(0, 1), (20, 2), (0, 60), (0, 400)])
def test_180_rows_are_of_evenly_spread_frames_whatever_the_length(first, frames):
    cast, orders = plan(fps=240.0)
    joints = joints_of(cast, orders[0])[first : first + frames]
    assert len(joints) == frames
    rows = rows_of(cast, orders[0], joints)
    assert rows.shape == (ROWS, 768) and rows.dtype == np.float32 and np.isfinite(rows).all()
    pictures = draw_small(joints, cast.signers[orders[0].signer], looks_of(cast)[orders[0].signer])
    drawn = np.stack([np.asarray(picture).ravel() for picture in pictures])
    distinct, places = np.unique(indices(frames), return_inverse=True)
    assert distinct[0] == 0 and distinct[-1] == frames - 1 and len(distinct) == min(frames, ROWS)
    assert np.array_equal(rows, projected(drawn[distinct])[places])


def test_a_small_picture_is_the_large_one_made_smaller():
    cast, orders = plan()
    signer, look = cast.signers[orders[0].signer], looks_of(cast)[orders[0].signer]
    joints = joints_of(cast, orders[0])[::20]
    large = [np.asarray(p.reduce(8)).astype(int) for p in draw_clip(joints, signer, look, rng=generator(0))]
    small = [np.asarray(p).astype(int) for p in draw_small(joints, signer, look)]
    apart = np.array([[np.abs(a - b).mean() for b in small] for a in large])
    assert np.array_equal(apart.argmin(1), np.arange(len(large))) and np.diag(apart).max() < 4


# -- what they say


def test_no_order_of_adding_changes_a_bit():
    pictures = generator(1).integers(0, 256, (3, len(directions())), dtype=np.uint8)
    pictures[0], pictures[1] = 0, 255
    apart = pictures - np.rint(pictures.mean(0))
    sums = apart.astype(np.int64) @ directions().astype(np.int64)
    scale = np.float32(np.sqrt(np.square(apart).sum() / len(apart)))
    assert np.array_equal(projected(pictures), sums.astype(np.float32) / scale)
    assert {*np.unique(directions())} == {-1, 1} and abs(directions().mean()) < 0.01


def test_their_variance_is_about_one():
    cast, orders = plan()
    for order in orders:
        rows = rows_of(cast, order, joints_of(cast, order))
        assert 0.8 < np.square(rows).mean() < 1.25


def test_the_nearest_neighbour_is_a_frame_of_a_similar_pose():
    """Among frames of the clip that lie half a second and more away: how large a share of them has hands that are
    nearer still; by chance it would be a half."""
    cast, orders = plan()
    shares = []
    for order in orders:
        joints = joints_of(cast, order)[: ROWS // 2]
        rows = rows_of(cast, order, joints)[np.searchsorted(indices(len(joints)), np.arange(len(joints)))]
        apart, hands = between(rows), between(joints[:, LEFT_HAND:, :2].reshape(len(joints), -1))
        frames = np.arange(len(joints))
        assert apart[apart > 0].size == apart.size - len(joints), "no two frames have the same features"
        far = np.abs(frames[:, None] - frames) > 12
        for frame in frames:
            nearest = frames[far[frame]][apart[frame, far[frame]].argmin()]
            shares.append((hands[frame, far[frame]] < hands[frame, nearest]).mean())
    assert np.mean(shares) < 0.3


def between(rows: np.ndarray) -> np.ndarray:
    """[T, D] -> [T, T] distances."""
    return np.stack([np.linalg.norm(rows - row, axis=1) for row in rows])
