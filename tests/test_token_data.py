"""Files of tokens as a data set: the codes come back, with the vectors and latents beside them and the labels of a pose
cache; what does not fit, or was changed, is one line, and no clip is dropped without a word."""

import json
import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from data_sets import cache_of, npy_header, whole_clip, write_csl
from signstream.data.tokens import TokenData, joined
from signstream.errors import UserError
from signstream.inference.export_beside import latents_text, write_latents_beside, write_vectors_beside
from signstream.io.latent_files import latents_beside
from signstream.io.vector_files import vectors_beside
from signstream.io.whole import write_whole
from signstream.tokens.format import TokenSequence, write_line, write_list
from signstream.tokens.vectors import CodeVectors
from test_fuzz import mutate

PARTS, LEVELS, SIZE, DIM = ("F", "LH", "B"), (3, 1, 2), 20, 4
FRAMES = {"a": 118, "b": 10, "c": 31, "d": 3}


def sequence(name: str, frames: int, **changed: object) -> TokenSequence:
    """Codes of a clip, among them runs, parts that sent nothing and levels that were not sent."""
    rng = torch.Generator().manual_seed(frames)
    codes = torch.randint(SIZE, (-(-frames // 10), 3, 3), generator=rng)
    sent = torch.randint(4, (len(codes), 3), generator=rng).minimum(torch.tensor(LEVELS))
    codes = torch.where(torch.arange(3) < sent[..., None], codes, -1)
    codes[1:3] = codes[:1]
    fields = {"fps": 30.0, "chunk_len": 10, "parts": PARTS, "levels": LEVELS, "codebook_size": SIZE}
    return TokenSequence(
        **{"name": name, "num_frames": frames, "codes": codes, "tokenizer": "one", **fields, **changed}
    )


CLIPS = {name: sequence(name, frames) for name, frames in FRAMES.items()}
EVERY = tuple(CLIPS.values())


def vectors(tokenizer: str = "one", parts: tuple[str, ...] = PARTS) -> CodeVectors:
    table = torch.randn(3, 3, SIZE, DIM, generator=torch.Generator().manual_seed(0))
    return CodeVectors(
        parts, LEVELS, tokenizer, table * (torch.arange(3) < torch.tensor(LEVELS)[:, None])[..., None, None]
    )


def latents_of(name: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(FRAMES[name])
    return torch.randn(len(CLIPS[name].codes), 3, DIM, generator=generator)


def write(path: Path, clips: Iterable[TokenSequence] = EVERY, layout: str = "chunk") -> Path:
    """Tokens with their vectors and latents beside them."""
    path.write_text("".join(write_line(clip, layout) for clip in clips), encoding="utf-8")
    write_vectors_beside(path, vectors(), None)
    write_rows(path, {clip.name: len(clip.codes) for clip in CLIPS.values()})
    return path


def write_rows(path: Path, chunks: dict[str, int], of: CodeVectors | None = None) -> None:
    fields = [latents_text(latents_of(name)).encode() for name in chunks]
    write_latents_beside(path, fields, of or vectors(), chunks=chunks)


@pytest.fixture
def path(tmp_path) -> Path:
    return write(tmp_path / "tokens.jsonl")


def refused(path: Path, **options: object) -> str:
    """The one line of an error."""
    with pytest.raises(UserError) as caught:
        TokenData.open(path, **options)
    line = str(caught.value)
    assert "\n" not in line and str(path.parent) in line, line
    return line


@pytest.mark.parametrize("layout", ["chunk", "part"])
@pytest.mark.parametrize("rle", [True, False])
def test_what_was_written_is_served_by_number_and_by_name(tmp_path, layout, rle):
    path = write(tmp_path / "tokens.jsonl", layout=layout)
    path.write_text("".join(write_line(clip, layout, rle) for clip in CLIPS.values()))
    data = TokenData.open(path, "one", latents=True)
    assert data.names == list(FRAMES) and data.num_frames == list(FRAMES.values()) and len(data) == 4
    assert (data.digest, data.fps, data.chunk_len, data.parts, data.levels) == ("one", 30.0, 10, PARTS, LEVELS)
    for i, (name, clip) in enumerate(CLIPS.items()):
        for which in (i, name, i - 4):
            codes = data.codes(which)
            assert codes.dtype == torch.int64 and torch.equal(codes, clip.codes) and len(codes) == data.chunks(which)
            assert torch.equal(data.latents(which), latents_of(name).half())
    assert torch.equal(data.vectors, vectors().table)
    place = vectors().table[0, 0, CLIPS["a"].codes[0, 0, 0]] if CLIPS["a"].codes[0, 0, 0] >= 0 else torch.zeros(DIM)
    for level in (1, 2):
        code = CLIPS["a"].codes[0, 0, level]
        place = place + vectors().table[0, level, code] * (code >= 0)
    assert torch.allclose(data.code_vectors.sums(data.codes("a"))[0, 0], place)


def test_a_list_of_lines_is_served_too(path):
    path.write_text(write_list(map(write_line, CLIPS.values())))
    assert torch.equal(TokenData.open(path, latents=True).codes("c"), CLIPS["c"].codes)


def test_it_goes_to_another_process_without_the_latents_numbers(path):
    data = TokenData.open(path, latents=True)
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy.codes("a"), data.codes("a")) and torch.equal(copy.latents("d"), data.latents("d"))
    assert data.packed.dtype == np.int16, "two bytes a code"


def test_what_is_changed_in_a_result_changes_nothing(path):
    data = TokenData.open(path, latents=True)
    data.codes("a").fill_(7)
    data.latents("a").fill_(7)
    assert torch.equal(data.codes("a"), CLIPS["a"].codes) and torch.equal(data.latents("a"), latents_of("a").half())


def test_tokens_stand_alone_until_more_is_asked_of_them(path):
    vectors_beside(path).unlink()
    latents_beside(path).unlink()
    data = TokenData.open(path)
    assert torch.equal(data.codes("b"), CLIPS["b"].codes)
    for ask, told in ((lambda: data.vectors, "export_tokens writes"), (lambda: data.latents(0), "--latents writes")):
        with pytest.raises(UserError, match=told):
            ask()
    assert "tokens.latents.npy is missing" in refused(path, latents=True)
    with pytest.raises(UserError, match="there is no clip 'x'"):
        data.codes("x")
    with pytest.raises(IndexError):
        data.codes(4)


# -- what does not fit


def test_tokens_of_another_tokenizer_are_refused(path):
    assert "its tokens are of the tokenizer 'one', two is expected" in refused(path, tokenizer="two")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"tokenizer": "two"}, "'e': its tokenizer is 'two' and the first clip's 'one'"),
        ({"fps": 25.0}, "'e': its fps is 25 "),
        ({"codebook_size": 32}, "'e': its codebook_size is 32"),
        ({"levels": (3, 2, 2)}, "'e': its levels is (3, 2, 2)"),
        ({"name": "b"}, "the clip 'b' stands in it twice"),
    ],
)
def test_lines_that_are_not_of_one_export_are_refused(path, changed, told):
    write(path, [*CLIPS.values(), sequence(**{"name": "e", "frames": 20, **changed})])
    assert told in refused(path)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: vectors("two"), "its tokenizer is 'two' and that of tokens.jsonl 'one'"),
        (lambda: vectors(parts=("F", "RH", "B")), "its parts is ('F', 'RH', 'B')"),
    ],
)
def test_vectors_of_others_are_refused(path, made, told):
    write_vectors_beside(path, made(), None)
    assert told in refused(path) and "tokens.vectors.npz" in refused(path)


def test_latents_of_others_are_refused(path):
    chunks = {name: len(clip.codes) for name, clip in CLIPS.items()}
    for of, rows, told in (
        (vectors("two"), chunks, "its tokenizer are 'two' and those of tokens.jsonl 'one'"),
        (vectors(parts=("F", "RH", "B")), chunks, "its parts are ('F', 'RH', 'B')"),
        (None, {"a": 12, "b": 1}, "its rows are 13 and those of tokens.jsonl 18"),
        (None, dict(reversed(chunks.items())), "its clips are "),
    ):
        write_rows(path, rows, of)
        assert told in refused(path, latents=True)


def test_a_line_that_names_too_many_codes_is_refused_before_they_are_made(path):
    levels = {chr(65 + i): 64 for i in range(20)}
    line = json.loads(write_line(CLIPS["a"])) | {"num_frames": 1 << 20, "chunk_len": 1, "tokens": [], "templates": None}
    line["meta"] |= {"levels": levels}
    path.write_text(json.dumps(line))
    assert "a clip has at most" in refused(path)


# -- hostile files


@pytest.mark.parametrize("which", ["tokens", "vectors", "latents"])
def test_a_changed_file_is_one_line_or_what_it_was(tmp_path, which):
    path = write(tmp_path / "tokens.jsonl")
    file = {"tokens": path, "vectors": vectors_beside(path), "latents": latents_beside(path)}[which]
    rng, sound, told = np.random.default_rng(1), file.read_bytes(), []
    for _ in range(170):
        file.write_bytes(mutate(rng, sound, 400, 300))
        try:
            data = TokenData.open(path, latents=True)
        except UserError as error:
            told.append(str(error))
        else:
            for name, clip in CLIPS.items():
                assert torch.equal(data.codes(name), clip.codes)
                assert torch.equal(data.latents(name), latents_of(name).half())
            assert torch.equal(data.vectors, vectors().table)
    assert len(told) > 80 and not any("\n" in line or str(tmp_path) not in line for line in told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty file"),
        (b"\x93NUMPY", "not an npy file"),
        (npy_header("(18, 3, 4)", "'|O'", bytes(500)), "float16 [rows, P, Z] is expected"),
        (npy_header("(18, 3, 4)", "'<f4'", bytes(2000)), "float16 [rows, P, Z] is expected"),
        (npy_header("(1000000, 1000, 1000)", "'<f2'", bytes(500)), "it may be cut"),
        (npy_header("(18, 3, 4)", "'<f2'", bytes(432)), "it may be cut"),
        (npy_header("(18, 3, 4)", "'<f2'", bytes(432 + 9000)), "it may be cut"),
        (npy_header("(18, 3, 4)", "'<f2'", bytes(432 + 90)), "no line after its numbers"),
        (npy_header("(18, 3, 4)", "'<f2'", b"\xff" * 432 + b'\n{"a": 1, "check": "00000000"}\n'), "no finite number"),
        (npy_header("(18, 3, 4)", "'<f2'", bytes(432) + b'\n{"a": 1, "check": "00000000"}\n'), "it was changed"),
    ],
)
def test_latents_that_are_none(path, content, told):
    latents_beside(path).write_bytes(content)
    assert told in refused(path, latents=True)


def npz(path: Path, meta: object, **arrays: np.ndarray) -> None:
    text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
    write_whole(path, lambda file: np.savez(file, meta=np.frombuffer(text, np.uint8), **arrays))


META = {"format": 1, "tokenizer": "one", "codebook_size": SIZE, "levels": dict(zip(PARTS, LEVELS))}
BOOKS = {f"{tag}{q}": np.ones((SIZE, DIM), np.float32) for tag, n in zip(PARTS, LEVELS) for q in range(n)}


@pytest.mark.parametrize(
    ("meta", "arrays", "told"),
    [
        (b"{", BOOKS, "`meta` is not JSON"),
        (b"[" * 9000, BOOKS, "`meta` is not JSON"),
        (b" " * 20000, BOOKS, "at most 16384 bytes"),
        ({**META, "format": 2}, BOOKS, "meta.format is 2"),
        ({**META, "levels": [3]}, BOOKS, "levels are expected"),
        ({**META, "levels": {"F": 1 << 40}}, BOOKS, "levels are"),
        ({**META, "levels": {}}, BOOKS, "the parts are []"),
        ({**META, "codebook_size": 0}, BOOKS, "codebook_size is 0"),
        ({**META, "codebook_size": 21}, BOOKS, "`F0` is [20, 4]: [21, Z] is expected"),
        (META, {**BOOKS, "B1": np.ones((SIZE, 5), np.float32)}, "`B1` is [20, 5]"),
        (META, {key: book for key, book in BOOKS.items() if key != "B1"}, "`B1` is []"),
        (META, {**BOOKS, "F2": np.full((SIZE, DIM), np.nan)}, "not all finite"),
        (META, {**BOOKS, "F2": np.full((SIZE, DIM), {})}, "pickle inside"),
    ],
)
def test_vectors_that_are_none(path, meta, arrays, told):
    npz(vectors_beside(path), meta, **arrays)
    assert told in refused(path)


# -- labels


def test_clips_are_joined_with_their_labels_and_none_is_lost(tmp_path):
    poses = {name: whole_clip(frames, 1) for name, frames in FRAMES.items()}
    poses["more"] = whole_clip(12, 2)
    poses["d"] = whole_clip(8, 1)  # another clip than the tokens'
    splits = {"train": ["c", "more", "a", "d", "gone"], "val": ["b"]}
    cache = cache_of(write_csl(tmp_path / "data", poses, splits), fps=30)
    data = TokenData.open(write(tmp_path / "tokens.jsonl"))
    clips, left_out = joined(data, cache, "train")
    assert [(data.names[number], clip.name, clip.gloss, clip.signer) for number, clip in clips] == [
        ("c", "c", "HELLO", "3"),
        ("a", "a", "HELLO", "3"),
    ]
    assert {line.name: line.reason for line in left_out} == {
        "gone": "no annotation",
        "more": "no tokens in tokens.jsonl",
        "d": "another clip: 3 frames in tokens.jsonl, 8 in the data set",
        "b": "no clip of the split has this name: it is in tokens.jsonl alone",
    }
    only = TokenData(tmp_path / "other.jsonl", [sequence("x", 20)])
    with pytest.raises(UserError, match=r"other.jsonl has tokens of no clip of the split 'train': the first is 'gone'"):
        joined(only, cache, "train")
