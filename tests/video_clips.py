"""Small videos that PyAV makes: a red square in the upper left corner of a grey picture."""

from fractions import Fraction

import numpy as np
import pytest

HEIGHT, WIDTH, SQUARE = 48, 64, 16
av = pytest.importorskip("av", reason="needs av, of the extra `video`")
FORMATS = [
    *((".mp4", "libx264"), (".mkv", "libx264"), (".webm", "libvpx")),
    *((".avi", "mpeg4"), (".avi", "libx264"), (".ts", "libx264")),
]


def drawn(number, dot=(4, 4)):
    """[H, W, 3]: the number-th picture; a white square wanders, so that no two are alike."""
    picture = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
    picture[dot[1] : dot[1] + SQUARE, dot[0] : dot[0] + SQUARE] = (255, 0, 0)
    picture[-8:, number % 56 : number % 56 + 8] = 255
    return picture


def write_video(path, pictures=None, *, codec="libx264", form="yuv420p", times=None, prepare=None):
    """`times`: milliseconds of each picture, instead of 25 a second; `prepare` is given the stream."""
    pictures = [drawn(number) for number in range(25)] if pictures is None else pictures
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], form
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if prepare is not None:
            prepare(stream)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = Fraction(1, 1000)
            frame.pts = 40 * number if times is None else times[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def noisy(count):
    """Pictures that take many bytes."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return [np.roll(noise, number, axis=1) for number in range(count)]


def damage(content):
    """With an eighth of it garbage, in the middle."""
    start, length = len(content) // 2, len(content) // 8
    return content[:start] + np.random.default_rng(1).bytes(length) + content[start + length :]


def write_sound(path, cover=False):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts = 8000, 0
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            try:
                picture.disposition = av.stream.Disposition.attached_pic
            except (AttributeError, TypeError):
                pytest.skip("this version of av writes no covers")
            drawing = av.VideoFrame.from_ndarray(drawn(0), format="rgb24")
            container.mux([*picture.encode(drawing.reformat(format="yuvj420p")), *picture.encode()])
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
