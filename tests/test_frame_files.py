"""Pictures that may be anything: [H, W, 3] of bytes, or one short reason, in little memory."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from phoenix_data import fuzz
from signstream.errors import UserError
from signstream.io.frame_files import list_frames, read_frames
from test_fuzz import allocates


def png(picture: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG", **options)
    return out.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def made_png(width: int, height: int, depth: int = 8, colours: int = 2, content: bytes = b"") -> bytes:
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((depth, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + content + chunk(b"IEND", b"")


GREY = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
TEXT_BOMB = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20), 9)) * 60
PICTURES = {
    "nothing": (b"", "empty file"),
    "text": (b"no picture at all, but text of some length", "not a PNG file"),
    "a JPEG": (b"\xff\xd8\xff\xe0" + bytes(100), "not a PNG file"),
    "half of it": (png(GREY)[:400], "not a whole PNG file"),
    "its head alone": (png(GREY)[:29], "not a whole PNG file"),
    "a bomb": (made_png(100_000, 100_000, content=chunk(b"IDAT", zlib.compress(bytes(1 << 20), 9))), "too large: "),
    "a wide bomb": (made_png(1, 2**31 - 1), "too large: "),
    "nothing wide": (made_png(0, 24), "too large: "),
    "no pixels": (made_png(24, 24), "not a whole PNG file"),
    "16 bits": (made_png(24, 24, depth=16), "16 bits a colour"),
    "an endless line": (
        made_png(24, 24, content=chunk(b"IDAT", zlib.compress(bytes(1 << 26), 9))),
        "",
    ),
    "texts that unpack": (png(GREY)[:33] + TEXT_BOMB + png(GREY)[33:], ""),
    "a flipped bit": (bytes(b ^ (at == 60) for at, b in enumerate(png(GREY))), "not a whole PNG file"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_that_is_none_is_one_short_reason(tmp_path, name):
    content, reason = PICTURES[name]
    (tmp_path / "x.png").write_bytes(content)

    def outcome() -> str:
        try:
            return "" if read_frames([tmp_path / "x.png"]).shape == (1, 24, 24, 3) else "another shape"
        except UserError as error:
            return str(error)

    said = allocates(24 << 20, outcome)
    assert said.startswith(reason) and "\n" not in said and len(said) < 200
    assert bool(said) == bool(reason)


def test_pictures_of_every_kind_become_red_green_and_blue(tmp_path):
    grey = GREY[..., 0]
    Image.fromarray(grey).save(tmp_path / "L.png")
    Image.fromarray(np.dstack((GREY, grey))).save(tmp_path / "RGBA.png")
    Image.fromarray(GREY).quantize(16).save(tmp_path / "P.png")
    frames = read_frames([tmp_path / f"{kind}.png" for kind in ("L", "RGBA", "P")])
    assert np.array_equal(frames[0], np.repeat(grey[..., None], 3, -1)) and np.array_equal(frames[1], GREY)
    assert np.array_equal(frames[2], np.asarray(Image.fromarray(GREY).quantize(16).convert("RGB")))


def test_a_clip_of_two_sizes_or_too_many_bytes_is_refused(tmp_path, monkeypatch):
    for name, side in (("a", 24), ("b", 24), ("c", 25)):
        (tmp_path / f"{name}.png").write_bytes(png(np.zeros((24, side, 3), np.uint8)))
    with pytest.raises(UserError, match=r"frames of two sizes: a\.png and c\.png are 24 x 24 and 25 x 24"):
        read_frames(list_frames(tmp_path))
    monkeypatch.setattr("signstream.io.frame_files.LARGEST_CLIP", 2 * 24 * 24 * 3)
    with pytest.raises(UserError, match="too large: 3 frames of 24 x 24 are 5184 bytes"):
        read_frames(list_frames(tmp_path))
    monkeypatch.setattr("signstream.io.frame_files.MOST_FRAMES", 2)
    with pytest.raises(UserError, match="too many frames"):
        list_frames(tmp_path)


@pytest.mark.parametrize("count", [150, pytest.param(500, marks=pytest.mark.slow)])
def test_fuzzed_pictures_are_pictures_or_one_line(tmp_path, count):
    file = tmp_path / "x.png"
    text = chunk(b"tEXt", bytes(2000))  # what is changed there changes no picture; elsewhere a checksum notices
    seeds = [png(GREY), png(GREY[..., 0]), png(GREY)[:33] + text + png(GREY)[33:]]
    lines = fuzz(file, seeds, lambda: read_frames([file]), head=60, count=count)
    assert 5 < lines.count("") < count - 20
