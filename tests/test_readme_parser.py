import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from data_sets import cache_of, data_config, whole_clip, write_csl
from signstream.io.readme_parser import ReadmeFacts, check_readme, parse_readme

SPEC = Path(__file__).resolve().parents[2] / "shared" / "spec" / "dataset_format.md"
RANGES = {"body": (1, 17), "face": (24, 91), "left_hand": (92, 112), "right_hand": (113, 133)}
CENTERS = {"body": 1, "face": 32, "left_hand": 92, "right_hand": 113}
UNITS = ((60, 63), (66, 69))
ALL = ReadmeFacts((134, 3), 30.0, RANGES, CENTERS, UNITS)

WORDINGS = {
    "plain": """
        Poses are arrays of shape [T, 134, 3] at 30 fps.
        Joints: body 1-17, feet 18-23, face 24-91, left hand 92-112, right hand 113-133.
        Centers: body 1, face 32, left hand 92, right hand 113.
        Unit length: eye corners 60-63 and eye corners 66-69.
    """,
    "list in bold": """
        - **Shape**: `[T, 134, 3]`
        - **Frame rate**: 30
        * **Body**: 1–17
        * **Face**: 24 – 91
        * **Left hand**: 92–112
        * **Right hand**: 113–133
        The centre joints are **body** 1 (nose), **face** 32 (chin), **left hand** 92 and **right hand** 113.
        - right eye: 60–63
        - left eye: 66–69
    """,
    "brackets": """
        float32 [ T , 134 , 3 ], 30.0 frames per second
        full_body: [1, 133]
        body: [1, 17]
        face: [24, 91]
        left_hand: [92, 112]
        right_hand: [113, 133]
        Center: body: 1, face: 32, left_hand: 92, right_hand: 113
        eye width [60, 63]
        eye width [66, 69]
    """,
    "words": """
        The video runs at 30 frames a second; poses are [t,134,3].
        The full-body is 1 to 133: the body (1 to 17), the face (24 to 91), the Left-hand (92 to 112) \
and the Right-hand (113 to 133).
        As centre joint of body 1, of face 32, of left hand 92 and of right hand 113 is used.
        The eye corners 60 to 63 and the eye corners 66 to 69 make the unit.
    """,
    "joints named": """
        Shape [T, 134, 3], FPS: 30
        body joints 1-17, face keypoints: 24-91, left hand landmarks 92-112, right hand joints (113-133)
        The part's centre: body joint 1, face joint 32, left hand joint 92, right hand joint 113
        right eye corners (60-63); left eye corners (66-69)
    """,
    "a table": """
        | part | joints |
        |---|---|
        | body | 1-17 |
        | face | 24-91 |
        | left hand | 92-112 |
        | right hand | 113-133 |

        [T, 134, 3], 30 fps; center of body 1, center of face 32, center of left hand 92, \
center of right hand 113; eye 60-63, eye 66-69
    """,
}


@pytest.mark.parametrize("text", WORDINGS.values(), ids=WORDINGS)
def test_the_facts_are_found_in_other_words(tmp_path, text):
    assert parse_readme(text) == ALL
    check_readme(parse_readme(text), data_config(tmp_path / "data"), tmp_path / "README.md")


@pytest.mark.skipif(not SPEC.is_file(), reason="the specification is not beside this checkout")
def test_the_specification_of_the_format_states_the_known_facts(tmp_path):
    facts = parse_readme(SPEC.read_text(encoding="utf-8"))
    assert facts == ALL
    check_readme(facts, data_config(tmp_path / "data"), SPEC)


CONTRADICTIONS = {
    "shape": ("poses [T, 75, 3]", {}, "[T, 75, 3]", "data.num_joints is 133"),
    "frame rate": ("25 fps", {}, "25 frames a second", "data.fps is 30"),
    "our frame rate": ("30 fps", {"fps": 12.5}, "30 frames a second", "data.fps is 12.5"),
    "a range": ("Face 24-90", {}, "face 24-90", "data.body_parts.face is [24, 91]"),
    "our range": (
        "left hand: 92 to 112",
        {"body_parts": {"left_hand": [92, 111]}, "centers": {"left_hand": 92}},
        "left_hand 92-112",
        "data.body_parts.left_hand is [92, 111]",
    ),
    "a centre": ("centre joints: body 1, face 31", {}, "the centre of face is 31", "data.centers.face is 32"),
    "our centre": ("center: body 1", {"centers": {"body": 2}}, "the centre of body is 1", "data.centers.body is 2"),
    "the unit": (
        "eye corners 61-64, eye corners 67-70",
        {},
        "eyes 61-64, 67-70",
        "data.unit_joints is [(60, 63), (66, 69)]",
    ),
    "our unit": ("eye corners 60-63", {"unit_joints": [[2, 3]]}, "eyes 60-63", "data.unit_joints is [(2, 3)]"),
}


@pytest.mark.parametrize(("text", "options", "stated", "configured"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_is_one_line_with_both_values(tmp_path, text, options, stated, configured):
    root = write_csl(tmp_path / "data", {"a": whole_clip()})
    cache_of(root, **options)
    (root / "CSL-Daily_README.md").write_text(f"# The data\n\n{text}\n", encoding="utf-8")
    with pytest.raises(ValueError) as error:
        cache_of(root, **options)
    assert all(part in str(error.value) for part in (str(root / "CSL-Daily_README.md"), stated, configured))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A data set of sign language, 20,654 clips of 10 signers.",
        "The face has 68 landmarks, a hand 21.",
        "T-shirts [T, 5]",
        "0 fps",
        "full-body 1-133",
        "upper body 1-11, lower body 12-17",
        "whole body: 1-133",
        "surface 3-4, interfaces 1 to 2",
        "between the eyes 2-3, head width 4-5",
        "Centre joints are given below.",
        "in 2-3 sentences",
        "face 68, 21 a hand",
        "\0\ufeff\ud800",
    ],
)
def test_a_readme_without_facts_is_fine(tmp_path, text):
    assert parse_readme(text) == ReadmeFacts()
    check_readme(ReadmeFacts(), data_config(tmp_path / "data"), tmp_path / "README.md")


@pytest.mark.parametrize(
    "text",
    [
        "face 24-91 (centre 32)",
        "body 1-17 with the centre at joint 1",
        "- face: 24-91, centre joint 32",
        "centre of the left hand 92-112: its wrist",
    ],
)
def test_a_range_beside_a_centre_is_no_centre(tmp_path, text):
    assert not parse_readme(text).centers
    check_readme(parse_readme(text), data_config(tmp_path / "data"), tmp_path / "README.md")


def test_a_readme_that_is_not_utf8_or_a_folder_does_no_harm(tmp_path):
    root = write_csl(tmp_path / "data", {"a": whole_clip()})
    (root / "CSL-Daily_README.md").write_bytes(b"\xff\xfe 30 fps \x80 body 1-17")
    assert len(cache_of(root).clips) == 1
    (root / "CSL-Daily_README.md").unlink()
    (root / "CSL-Daily_README.md").mkdir()
    assert len(cache_of(root).clips) == 1


@contextmanager
def at_most(seconds: int):
    """Stops what would go on for minutes; nothing here takes a tenth of a second when it is right."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# fmt: off
WORDS = (
    "face", "body", "left hand", "right_hand", "eye corners", "centre", "[T,", "fps", "-", "–", "to", ",",
    "\n", "\n- ", "**", "(", "[", "]", " ", "\t", "\u3000", ":", "|", "17", "0", "9" * 30, "1.5", "٣", "²",
    "\0", "\ud800", "joints",
)
# fmt: on
LONG = (
    "face" + " " * 50_000,
    "face\u3000\t" * 10_000,
    "9" * 50_000 + " fps",
    "face 1-" + "9" * 50_000,
    "\n" * 50_000,
    "[" * 50_000,
    "eye" * 20_000,
    "- " * 50_000,
    "[t" + " " * 50_000,
    "1." * 20_000,
    "face:" + "(" * 50_000,
    "eye " * 20_000,
    "centre face " * 5_000,
)


def test_random_text_gives_facts_or_none_and_at_once(tmp_path):
    lines: list[str] = []
    rng = np.random.default_rng(0)
    data = data_config(tmp_path / "data")
    for _ in range(3000):
        text = "".join(WORDS[i] for i in rng.integers(0, len(WORDS), rng.integers(1, 40)))
        facts = parse_readme(text)
        if facts != ReadmeFacts():
            try:
                check_readme(facts, data, Path("README.md"))
            except ValueError as error:
                lines.append(str(error))
    assert lines
    assert not any("\n" in line for line in lines)
    for text in LONG:
        with at_most(10):
            parse_readme(text)
