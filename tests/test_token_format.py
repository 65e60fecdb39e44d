import json
import random
import re
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch

from signstream.tokens.format import TokenSequence, parse_line, read_jsonl, write_line, write_list
from signstream.tokens.templates import LETTERS, from_templates, part_letters, templates
from test_rle import cases, random_codes

NAMES = ("S000001_P0004_T00", "你好, мир", 'naïve "clip"\\\n\u2028\x85', "👋", " ", "../x", "[")
CODES = torch.tensor([[[12, 7], [37, -1]], [[7, -1], [37, -1]], [[9, -1], [37, -1]], [[9, -1], [-1, -1]]])
CLIP = TokenSequence("好", 30.0, 10, 38, CODES, ("F", "LH"), (2, 1), 64, "0123456789abcdef")
BY_CHUNK = {
    "video_name": "好",
    "fps": 30,
    "chunk_len": 10,
    "num_frames": 38,
    "tokens": [
        {"t": 0, "F": [12, 7], "LH": [37]},
        {"t": 1, "F": [7], "LH": ["NC", 2]},
        {"t": 2, "F": [9]},
        {"t": 3, "F": ["NC", 1], "LH": []},
    ],
    "templates": ["<T0><F:c12><F:c7><LH:a37>", "<T1><F:c7><LH:NCx2>", "<T2><F:c9>", "<T3><F:NCx1>"],
    "rle": True,
    "meta": {
        "format": 1,
        "tokenizer": "0123456789abcdef",
        "codebook_size": 64,
        "levels": {"F": 2, "LH": 1},
        "check": CLIP.check,
    },
}
BY_PART = {
    "face": [{"t": 0, "F": [12, 7]}, {"t": 1, "F": [7]}, {"t": 2, "F": [9]}, {"t": 3, "F": ["NC", 1]}],
    "left_hand": [{"t": 0, "LH": [37]}, {"t": 1, "LH": ["NC", 2]}, {"t": 3, "LH": []}],
}


def clips(count: int, seed: int = 0) -> list[TokenSequence]:
    rng = random.Random(seed)
    made = []
    for i in range(count):
        codes, tags, levels = random_codes(rng)
        name, fps, length = f"{NAMES[i % len(NAMES)]}{i}", rng.choice((25, 30.0, 29.97, 1 / 3)), rng.randint(1, 12)
        frames = max(0, len(codes) * length - rng.randrange(length))
        made.append(TokenSequence(name, fps, length, frames, codes, tags, levels, 8, "ab12"))
    return made


def said(clip: TokenSequence) -> list:
    """All that a clip says, as one comparable value."""
    assert clip.codes.dtype == torch.int64
    return [(field.name, getattr(clip, field.name)) for field in fields(clip) if field.name != "codes"] + [
        clip.codes.shape,
        clip.codes.tolist(),
    ]


def test_a_line_is_what_the_design_says():
    assert CLIP.to_json() == BY_CHUNK
    assert list(CLIP.to_json()) == list(BY_CHUNK) and isinstance(CLIP.to_json()["fps"], int)
    assert CLIP.to_json("part") == BY_CHUNK | {"tokens": BY_PART}
    plain = CLIP.to_json(rle=False)
    assert (
        plain["tokens"][2] == {"t": 2, "F": [9], "LH": [37]}
        and plain["templates"][2] == "<T2><F:c9><LH:a37>"
        and plain["rle"] is False
    )
    assert write_line(CLIP).startswith('{"video_name": "好", "fps": 30, "chunk_len": 10') and write_line(CLIP).endswith(
        "}}\n"
    )
    with pytest.raises(ValueError, match="the layout is 'row': chunk or part"):
        CLIP.to_json("row")


@pytest.mark.parametrize("layout", ["chunk", "part"])
@pytest.mark.parametrize("rle", [True, False])
def test_what_was_written_is_read(tmp_path, layout, rle):
    made = clips(100)
    lines = [write_line(clip, layout, rle) for clip in made]
    assert all(line.count("\n") == 1 for line in lines)
    indented = json.dumps([json.loads(line) for line in lines], indent=1)
    other_ends = "\r\n\n".join(line.strip() for line in lines)
    for text in ("".join(lines), write_list(lines), indented, other_ends):
        (tmp_path / "tokens").write_bytes(text.encode("utf-8"))
        assert list(map(said, read_jsonl(tmp_path / "tokens"))) == list(map(said, made))


def test_templates_back_to_codes():
    for codes, tags, _ in cases(200):
        for rle in (True, False):
            assert torch.equal(from_templates(templates(codes, tags, rle), tags, codes.shape[2]), codes)
    assert templates(CODES, ("F", "LH"))[2:] == ["<T2><F:c9><LH:a37>", "<T3><F:c9>"]
    assert torch.equal(
        from_templates(["<T0><RH:b08>"], ("F", "RH"), 1), torch.tensor([[[-1], [8]]])
    )  # as 2.3 of the specification writes it


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["<T1><F:c1>"], "template 0 .* should begin with <T0>"),
        (["<T0><F:c1>", "<F:c1>"], "template 1 .* should begin with <T1>"),
        ([None], "template 0 is None"),
        (["<T0><F:c1>x"], "template 0 .* marks such as <F:c7>"),
        (["<T0><F:c1><F:c>"], "template 0 .* marks such as <F:c7>"),
        (["<T0><F:c1234567890123456789>"], "template 0 .* marks such as <F:c7>"),
        (["<T0><LH:a1><F:c1>"], "template 0 .* part by part"),
        (["<T0><F:a1>"], r"template 0 holds <F:a1>: the parts are written <F:c\.\.> <LH:a\.\.>"),
        (["<T0><B:d1>"], "template 0 holds <B:d1>"),
        (["<T0><B:NCx1>"], "template 0 holds <B:NCx1>"),
        (["<T0><F:NCx1>"], "chunk 0, F: a run in the first chunk"),
        (["<T0><F:c1>", "<T1><F:NCx2>"], "chunk 1, F: a run of 2 chunks"),
        (["<T0><F:c1>", "<T1><F:NCx0>"], "chunk 1, F: .* is no run"),
        (["<T0><F:c1>", "<T1><F:NCx1><F:c1>"], "chunk 1, F: .* is no run"),
        (["<T0><F:c1>", "<T1><F:NCx2>", "<T2><F:c1>"], "chunk 2, F: it stands in the row"),
        (["<T0><F:c1><F:c1><F:c1>"], "chunk 0, F: 3 codes; there are 2 levels"),
    ],
)
def test_malformed_templates_are_one_line(lines, fault):
    with pytest.raises(ValueError, match=fault) as error:
        from_templates(lines, ("F", "LH"), depth=2)
    assert "\n" not in str(error.value)


def test_every_part_has_a_letter_of_its_own():
    assert [part_letters(("X", "F", "TAIL"))[tag] for tag in ("X", "F", "TAIL")] == ["f", "c", "g"]
    assert len(set(part_letters([*LETTERS, "X", "Y"]).values())) == 7
    for tags in ([], ["F", "F"], ["f"], ["F0"], ["T:"], ["NAÏVE"], ["A" * 17], [f"A{chr(65 + i)}" for i in range(26)]):
        with pytest.raises(ValueError, match="different tags of capital letters"):
            part_letters(tags)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"num_frames": 41}, "codes has 4 chunks: 41 frames in chunks of 10 make 5"),
        ({"num_frames": -1}, "num_frames is -1"),
        ({"num_frames": 1 << 40}, "num_frames is 1099511627776"),
        ({"chunk_len": 0}, "chunk_len is 0"),
        ({"chunk_len": 10.0}, r"chunk_len is 10\.0"),
        ({"fps": 0}, "fps is 0"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": True}, "fps is True"),
        ({"codebook_size": 37}, r"chunk 0, LH: a code is outside 0\.\.36"),
        ({"levels": (1, 1)}, r"codes are .*\[4, 2, 2\]: int64 \[N, 2, 1\]"),
        ({"levels": (1, 2)}, "chunk 0, F: more codes than the part has levels"),
        ({"levels": (2,)}, r"levels are \(2,\)"),
        ({"levels": (2, 0)}, r"levels are \(2, 0\)"),
        ({"parts": ("F", "F")}, "different tags"),
        ({"name": ""}, "video_name is ''"),
        ({"name": "\ud800"}, "video_name is .* text is expected"),
        ({"tokenizer": None}, "tokenizer is None"),
    ],
)
def test_a_clip_that_cannot_be_written_is_refused_when_it_is_made(change, fault):
    with pytest.raises(ValueError, match=fault):
        replace(CLIP, **change)


def edited(edit: Callable[[dict], object], layout: str = "chunk") -> str:
    data = json.loads(write_line(CLIP, layout))
    edit(data)
    return json.dumps(data)


EDITS = {
    "a code": (
        lambda d: d["tokens"][1].update(F=[8]),
        "chunk 1, F: tokens and templates differ: the line was changed after it was written",
    ),
    "a template": (
        lambda d: d["templates"].__setitem__(1, "<T1><F:c8><LH:NCx2>"),
        "chunk 1, F: tokens and templates differ",
    ),
    "both": (
        lambda d: (d["tokens"][1].update(F=[8]), d["templates"].__setitem__(1, "<T1><F:c8><LH:NCx2>")),
        "meta.check is .* was changed after",
    ),
    "a code and no templates": (
        lambda d: (d["tokens"][1].update(F=[8]), d.pop("templates")),
        "meta.check is .* was changed after",
    ),
    "a run": (lambda d: d["tokens"][1].update(LH=["NC", 1]), "chunk 2, LH: it is missing"),
    "name": (lambda d: d.update(video_name="x"), "meta.check is .* was changed after"),
    "fps": (lambda d: d.update(fps=25), "meta.check is .* was changed after"),
    "frames": (lambda d: d.update(num_frames=37), "meta.check is .* was changed after"),
    "chunks and frames": (lambda d: d.update(num_frames=4, chunk_len=1), "meta.check is .* was changed after"),
    "digest": (lambda d: d["meta"].update(tokenizer="0123456789abcdee"), "meta.check is .* was changed after"),
    "levels": (lambda d: d["meta"].update(levels={"F": 2, "LH": 2}), "meta.check is .* was changed after"),
    "check": (lambda d: d["meta"].update(check="00000000"), "meta.check is '00000000'"),
    "check is null": (lambda d: d["meta"].update(check=None), "meta.check is None"),
    "fewer chunks": (lambda d: d["tokens"].pop(), "tokens has 3 chunks: 38 frames in chunks of 10 make 4"),
    "fewer templates": (lambda d: d["templates"].pop(), "templates has 3 chunks"),
    "format": (lambda d: d["meta"].update(format=2), "meta.format is 2: this program reads 1"),
    "no meta": (lambda d: d.pop("meta"), "the line has no 'meta'"),
    "no levels": (lambda d: d["meta"].pop("levels"), "meta has no 'levels'"),
    "another key": (lambda d: d.update(template=[]), "the line has 'template': its keys are video_name, "),
    "another key in meta": (lambda d: d["meta"].update(chek=""), "meta has 'chek': its keys are format, "),
    "frames of another type": (lambda d: d.update(num_frames="38"), "num_frames is '38'"),
    "a huge number": (lambda d: d["tokens"][0].update(F=[10**400]), "chunk 0, F: 1000.* is no code"),
    "a huge fps": (lambda d: d.update(fps=10**400), "fps is 1000"),
    "rle of another type": (lambda d: d.update(rle=1), "a wrong type: .* rle true or false"),
    "levels of another type": (lambda d: d["meta"].update(levels=[2, 1]), "a wrong type: meta.levels"),
    "no part": (lambda d: d["meta"].update(levels={}), "different tags"),
    "templates of another type": (lambda d: d.update(templates=""), "a wrong type: .* templates a list"),
    "tokens of another type": (lambda d: d.update(tokens=3), "tokens is 3: an object is expected"),
}
PART_EDITS = {
    "a part is missing": (lambda d: d["tokens"].pop("face"), "tokens has no 'face'"),
    "a part too many": (lambda d: d["tokens"].update(body=[]), "tokens has 'body': its keys are face, left_hand"),
    "a part's rows out of order": (lambda d: d["tokens"]["face"].reverse(), "tokens.face, row 1: its t is 2"),
    "a part's row past the end": (lambda d: d["tokens"]["face"][3].update(t=4), "tokens.face, row 3: its t is 4"),
    "a part's row with another tag": (lambda d: d["tokens"]["face"][3].update(LH=[1]), "tokens.face, row 3 has 'LH'"),
    "a part's row is none": (lambda d: d["tokens"]["face"].append(1), "tokens.face, row 4 is 1"),
    "a part's row is left out": (lambda d: d["tokens"]["face"].pop(1), "chunk 1, F: it is missing"),
    "a part's rows are none": (lambda d: d["tokens"].update(face={}), "tokens.face is {}: a list"),
}


@pytest.mark.parametrize(
    ("layout", "edit", "fault"),
    [("chunk", *EDITS[key]) for key in EDITS] + [("part", *PART_EDITS[key]) for key in PART_EDITS],
    ids=[*EDITS, *PART_EDITS],
)
def test_an_edited_line_is_refused_in_one_line(layout, edit, fault):
    with pytest.raises(ValueError, match=r"^x\.jsonl, line 7: .*" + fault) as error:
        parse_line(edited(edit, layout), "x.jsonl, line 7")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["meta"].pop("check"),
        lambda d: d.pop("templates"),
        lambda d: d.pop("rle"),
        lambda d: d["meta"].update(note="by hand"),
        lambda d: d.update(fps=30.0),
        lambda d: d["tokens"][2].update(F=[9]),
        lambda d: (
            d["tokens"][1].update(LH=["NC", 1]),
            d["tokens"][2].update(LH=["NC", 1]),
        ),  # as a live stream writes it
    ],
)
def test_what_a_hand_may_write(edit):
    assert said(parse_line(edited(edit), "x")) == said(CLIP)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (write_line(CLIP)[:-20], "not whole JSON: .*character .*; the file may be cut"),
        ("", "not whole JSON"),
        (write_line(CLIP).replace('"fps": 30', '"fps": 30, "fps": 30'), "a key stands twice in one object: .*'fps'"),
        (write_line(CLIP).replace('{"t": 1', '{"t": 1, "t": 1'), "a key stands twice in one object: .*'t'"),
        (write_line(CLIP).replace("30", "NaN"), "NaN is no number"),
        (write_line(CLIP).replace("30", "-Infinity"), "-Infinity is no number"),
        (write_line(CLIP).replace("30", "1e999"), "fps is inf"),
        (write_line(CLIP).replace("30", "9" * 5000), "(Exceeds the limit|fps is 9999)"),
        ("[" * 100_000, "lists within lists, too deep"),
        (write_line(CLIP).encode().replace("好".encode(), b"\xff"), "not UTF-8 at byte 16"),
        ("\ufeff" + write_line(CLIP), "not whole JSON: .*BOM"),
        ("null", "the line is None: an object is expected"),
    ],
)
def test_text_that_is_no_line(text, fault):
    with pytest.raises(ValueError, match=r"^x\.jsonl, line 7: .*" + fault) as error:
        parse_line(text, "x.jsonl, line 7")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "line 1: there is none, the file is empty"),
        (b"\n \n", "line 1: there is none, the file is empty"),
        (b"[]", "the list is empty"),
        (b"[1]", "item 1: the line is 1"),
        (
            write_list([write_line(CLIP)] * 2).encode()[:-9],
            "not whole JSON: .*line 3, character .*; the file may be cut",
        ),
        (
            write_list([write_line(CLIP), write_line(CLIP).replace("[9]", "[8]")]).encode(),
            "item 2: chunk 2, F: tokens and templates differ",
        ),
        ((write_line(CLIP) + write_line(CLIP)[:200]).encode(), "line 2: not whole JSON"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path, content, fault):
    path = tmp_path / "tokens.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}.*{fault}") as error:
        list(read_jsonl(path))
    assert "\n" not in str(error.value)


def test_lines_before_a_fault_are_read(tmp_path):
    (tmp_path / "x").write_text(write_line(CLIP) + "{", encoding="utf-8")
    assert said(next(read_jsonl(tmp_path / "x"))) == said(CLIP)


ONE_LINE = re.compile(r"\A(, |: .*\()line \d+[:,] .*\Z")


def one_edit(rng: random.Random, text: bytes) -> bytes:
    i = rng.randrange(len(text))
    j = min(len(text), i + rng.choice((1, 2, 5, 40)))
    at = rng.choice([found.start() for found in re.finditer(rb"\d", text)] or [i])
    return rng.choice(
        (
            lambda: text[:i],
            lambda: text[:i] + text[j:],
            lambda: text[:i] + bytes([rng.choice(b' ,:"[]{}0123456789-.eTFLNC\n\\\xff')]) + text[i:],
            lambda: text[:i] + bytes([text[i] ^ 1 << rng.randrange(8)]) + text[i + 1 :],
            lambda: text[:j] + text[i:],
            lambda: text[:at] + b"%d" % rng.randrange(10) + text[at + 1 :],
        )
    )()


def test_an_edited_file_is_never_read_as_something_else(tmp_path):
    rng, path, outcomes = random.Random(0), tmp_path / "tokens.jsonl", []
    for case in range(500):
        made = clips(3, seed=case)
        text = "".join(write_line(clip, rng.choice(("chunk", "part")), rng.random() < 0.7) for clip in made).encode()
        for _ in range(rng.choice((1, 1, 2, 3))):
            text = one_edit(rng, text or b"0")
        path.write_bytes(text)
        try:
            read = list(map(said, read_jsonl(path)))
        except ValueError as error:
            outcomes.append(
                "refused" if ONE_LINE.search(str(error).removeprefix(str(path))) else f"{error!r} of case {case}"
            )
            continue
        left = iter(map(said, made))
        assert all(
            clip in left for clip in read
        )  # in order; a whole line may be gone, and nothing in the others can tell
        assert len(read) == sum(bool(line.strip()) for line in text.split(b"\n"))
        outcomes.append("whole" if len(read) == 3 else "lines lost")
    assert set(outcomes) == {"refused", "whole", "lines lost"} and outcomes.count("refused") > 400
