import math
import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from signstream.errors import UserError
from signstream.glosses import RULES, clean
from signstream.io import transcripts
from signstream.io.transcripts import Segment, TimedWord, read_ctm, read_stm, write_ctm, write_stm
from signstream.models.metrics import wer
from signstream.models.metrics.wer import Counts, Pair

SCLITE = ["sctk", "sclite"] if shutil.which("sctk") else ["sclite"] if shutil.which("sclite") else None
needs_sclite = pytest.mark.skipif(SCLITE is None, reason="no sclite here: Debian's package sctk has it")
Lines = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]  # {name: (reference, hypothesis)}


def random_lines(count: int, words: str, longest: int, seed: int) -> Lines:
    rng = random.Random(seed)
    draw = lambda: tuple(rng.choice(words) for _ in range(rng.randint(0, longest)))  # noqa: E731
    return {f"clip_{i}": (draw(), draw()) for i in range(count)}


def weather(count: int, seed: int) -> Lines:
    """As PHOENIX's files look: names in no order, long and short lines, recognised with every kind of error."""
    rng = random.Random(seed)
    glosses = [f"{stem}{end}" for stem in ("REGEN", "NORD", "MORGEN", "neg-SCHNEE", "C+M") for end in ("", "2", "-X")]
    glosses += ["__ON__", "__OFF__", "WIE-AUSSEHEN", "Wind", "ÜBER", "下雨", "D'", "(KOMMEN)", "A.B", "20,5"]
    lines = {}
    for i in range(count):
        reference = tuple(rng.choice(glosses) for _ in range(rng.randint(1, 28)))
        heard = [word.lower() if rng.random() < 0.1 else word for word in reference if rng.random() > 0.1]
        heard = [rng.choice(glosses) if rng.random() < 0.15 else word for word in heard]
        for _ in range(rng.randint(0, 2)):
            heard.insert(rng.randint(0, len(heard)), rng.choice(glosses))
        name = f"{rng.choice(('05May', '5may', '11August'))}_2010_{rng.choice('WwM')}-{i}{rng.choice(('', '_b', '-b'))}"
        lines[name] = reference, () if i % 50 == 0 else tuple(heard)
    return lines


def write_both(folder: Path, lines: Lines) -> list[Path]:
    paths = [folder / "lines.stm", folder / "lines.ctm"]
    write_stm(paths[0], [Segment(name, "Signer04", reference) for name, (reference, _) in lines.items()])
    heard = {
        name: [TimedWord(word, i / 5, 0.16, 0.5) for i, word in enumerate(line)] for name, (_, line) in lines.items()
    }
    write_ctm(paths[1], heard)
    return paths


def sclite_alignments(folder: Path, stm: Path, ctm: Path) -> dict[str, str]:
    """{name, in small letters: its alignment in the letters C, S, D and I}."""
    options = ["-r", stm, "stm", "-h", ctm, "ctm", "-o", "sgml", "-O", folder, "-f", "0"]
    ran = subprocess.run([*SCLITE, *map(str, options)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and not ran.stderr, ran.stderr
    report = (folder / f"{ctm.name}.sgml").read_text()
    paths = re.findall(r'<PATH [^>]*?file="([^"]*)"[^>]*>\n(.*?)</PATH>', report, re.DOTALL)
    return {name: "".join(re.findall(r"(?:^|:)([CSDI]),", pairs)) for name, pairs in paths}


def letters(pairs: list[Pair]) -> str:
    def letter(pair: Pair) -> str:
        if pair.reference is None:
            return "I"
        return "D" if pair.hypothesis is None else "CS"[wer.fold(pair.reference) != wer.fold(pair.hypothesis)]

    return "".join(map(letter, pairs))


@needs_sclite
@pytest.mark.parametrize(
    "lines", [random_lines(1000, "aAbBc", 9, seed=0), weather(1000, seed=1)], ids=["short", "long"]
)
def test_every_line_is_aligned_as_sclite_aligns_it(tmp_path, lines):
    theirs = sclite_alignments(tmp_path, *write_both(tmp_path, lines))
    assert theirs == {name.lower(): letters(wer.align(*pair)) for name, pair in lines.items()}
    kinds = "".join(theirs.values())
    expected = Counts(*(kinds.count(kind) for kind in "SDI"), len(kinds) - kinds.count("I"))
    assert wer.corpus(*zip(*lines.values())) == expected and expected.errors > 1000


def plain_alignment(reference: tuple[str, ...], hypothesis: tuple[str, ...]) -> str:
    """By the recursion as it is written in textbooks."""
    best = {(0, 0): (0, "")}
    for r in range(len(reference) + 1):
        for h in range(len(hypothesis) + 1):
            ways = [best[r, h]] if r == h == 0 else []
            if r and h:
                same = reference[r - 1].lower() == hypothesis[h - 1].lower()
                ways.append((best[r - 1, h - 1][0] + (0 if same else 4), best[r - 1, h - 1][1] + "SC"[same]))
            if h:
                ways.append((best[r, h - 1][0] + 3, best[r, h - 1][1] + "I"))
            if r:
                ways.append((best[r - 1, h][0] + 3, best[r - 1, h][1] + "D"))
            best[r, h] = min(ways, key=lambda way: way[0])  # of equals the first
    return best[len(reference), len(hypothesis)][1]


def test_every_line_is_aligned_at_the_least_cost():
    for reference, hypothesis in random_lines(200, "aAbc", 9, seed=2).values():
        pairs = wer.align(reference, hypothesis)
        assert letters(pairs) == plain_alignment(reference, hypothesis)
        assert [pair.reference for pair in pairs if pair.reference is not None] == list(reference)
        assert [pair.hypothesis for pair in pairs if pair.hypothesis is not None] == list(hypothesis)


def test_of_alignments_that_cost_the_same_sclites_counts():
    assert letters(wer.align("baabcb", "bbca")) == plain_alignment("baabcb", "bbca")
    assert wer.align(["A", "B"], ["X"]) == [Pair("A", None), Pair("B", "X")]
    assert wer.count("abc", "bcab") == Counts(0, 1, 2, 3)  # two in place and three errors, not four substitutions
    assert wer.count(["Regen", "ÜBER"], ["REGEN", "üBER"]) == Counts(1, 0, 0, 2)  # A to Z alone are folded


def test_counts_add_up_over_lines_and_ranks():
    lines = [wer.count(*pair) for pair in random_lines(50, "abc", 6, seed=3).values()]
    halves = [Counts.total(lines[:20]), Counts.total(lines[20:])]
    assert halves[0] + halves[1] == Counts.total(lines) == sum(lines, Counts())
    assert Counts.of(sum(half.state() for half in halves).tolist()) == Counts.total(lines)
    assert Counts(1, 2, 3, 8).state().dtype == torch.float64 and Counts(1, 2, 3, 8).rate == 0.75
    assert Counts().rate == 0 and Counts(insertions=1).rate == math.inf
    with pytest.raises(ValueError, match="shorter"):
        wer.corpus([["A"], ["B"]], [["A"]])


def test_a_line_is_of_one_class_of_length():
    assert [wer.length_class(n) for n in (0, 4, 5, 24, 25, 400)] == ["0-4", "0-4", "5-8", "17-24", "25+", "25+"]


def test_the_most_confused_pairs():
    lines = [("A B C", "A X C"), ("B B", "X Y"), ("C D", "D")]
    confused = wer.confusions(wer.align(reference.split(), hypothesis.split()) for reference, hypothesis in lines)
    assert confused == [("B", "X", 2), ("B", "Y", 1)] and wer.confusions([wer.align("B", "X")], most=0) == []


CLEANED = {
    "loc-NORD cl-KOMMEN-PLUSPLUS poss-MEIN lh-DA qu-WAS loc-cl-TAL": "NORD KOMMEN MEIN DA WAS TAL",
    "__ON__ REGEN __EMOTION__ __PU__ __LEFTHAND__ WIND __OFF__": "__ON__ REGEN WIND __OFF__",
    "REGEN REGEN-PLUSPLUS loc-REGEN WIND": "REGEN WIND",
    "K M U SCH NEE": "K+M+U+SCH NEE",
    "C+M D": "C+M+D",
    "WETTER WIE AUSSEHEN": "WETTER WIE-AUSSEHEN",
}


def test_hypotheses_are_cleaned_by_the_rules_of_their_set():
    for raw, cleaned in CLEANED.items():
        assert " ".join(clean(raw.split(), "phoenix2014")) == cleaned
        assert clean(raw.split(), "none") == raw.split()
    raw = ["__ON__", "loc-NORD", "poss-MEIN", "REGEN-PLUSPLUS", "REGEN", "cl-WIND", "__OFF__"]
    light = clean(raw, "phoenix2014t")
    assert light == ["NORD", "poss-MEIN", "REGEN", "WIND"]
    for rules in RULES:
        for raw in CLEANED:
            once = clean(raw.split(), rules)
            assert clean(once, rules) == once
    with pytest.raises(UserError, match="phoenix2014t"):
        clean([], "phoenix")


def test_files_say_what_was_written(tmp_path):
    segments = [Segment("b", "Signer01", ("REGEN", "下雨")), Segment("a-1", "S2", (), 0.5, 12.25)]
    segments += [Segment("B-1", "S", ("X",))]
    words = {"b": [TimedWord("REGEN", 0.04, 0.12, 0.875), TimedWord("下雨", 1.0, 0.04)], "a-1": [], "B-1": []}
    write_stm(tmp_path / "x.stm", segments)
    write_ctm(tmp_path / "x.ctm", words)
    assert read_stm(tmp_path / "x.stm") == [segments[2], segments[1], segments[0]]  # in the order of their bytes
    assert read_ctm(tmp_path / "x.ctm") == words
    assert (tmp_path / "x.stm").read_text().splitlines()[2] == "b 1 Signer01 0.000 1.79769e+308 REGEN 下雨"
    theirs = ";; comment\n\nf 1 Signer04 0.0 1.79769e+308  A  B \nf 1 S 1 2 <o,f0> @ C\n"
    (tmp_path / "theirs.stm").write_text(theirs)
    assert read_stm(tmp_path / "theirs.stm") == [Segment("f", "Signer04", ("A", "B")), Segment("f", "S", ("C",), 1, 2)]


TAKEN_OTHERWISE = ["", "A B", "A\u3000B", "@", "<unk>", "{", "A{B", "A;B", "A\\", "A*", "A\x1b", "A" * 300]


@pytest.mark.parametrize("word", TAKEN_OTHERWISE)
def test_what_sclite_reads_otherwise_is_refused(tmp_path, word):
    for write in (
        lambda path: write_stm(path, [Segment("clip", "S", ("GUT", word))]),
        lambda path: write_ctm(path, {"clip": [TimedWord("GUT", 0, 1), TimedWord(word, 1, 1)]}),
    ):
        with pytest.raises(UserError, match=r"'clip': the word .* cannot stand"):
            write(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_names_that_sclite_cannot_tell_apart_are_refused(tmp_path):
    for write in (
        lambda path: write_stm(path, [Segment("Clip", "S", ()), Segment("clip", "S", ())]),
        lambda path: write_ctm(path, {"Clip": [], "clip": []}),
    ):
        with pytest.raises(UserError, match="'Clip' and 'clip' are one name"):
            write(tmp_path / "x")
    with pytest.raises(UserError, match="the name 'a clip' cannot stand"):
        write_ctm(tmp_path / "x", {"a clip": []})


STM_FAULTS = {
    b"a 1 S 0.0": "line 2: 4 fields",
    b"a 1 S x 1.0 A": "line 2: b'x' is no number",
    b"a 1 S -1 1.0 A": "line 2: b'-1' is no number",
    b"a 1 S nan 1.0 A": "line 2: b'nan' is no number",
    b"a 1 S 2 1.0 A": "line 2: it ends at 1 s",
    b"a 1 S 9e999 9e999 A": "line 2: it ends",
    b"a 1 S 0 1 { A / B }": "line 2: the word '{' .* alternatives",
    b"a 1 S 0 1 \xff": r"line 2: b'\\xff' is not UTF-8",
    b"a\x1b[2J 1 S 0 1 A": "line 2: the name",
    b"a 1 S 0 1 " + b"A " * 40_000: "line 2: longer than 64 KB",
    b"a 1 S 0 1 " + b"A" * 300: "line 2: the word .* longer than 255 bytes",
}
CTM_FAULTS = {
    b"a 1 0 1": "line 2: 4 fields",
    b"a 1 zero 1 A": "line 2: b'zero' is no number",
    b"a 1 0 9e999 A": "line 2: times are seconds",
    b"a 1 0 1 A 1.5": "line 2: .* a confidence is a number from 0 to 1",
    b"a 1 0 1 A high": "line 2: b'high' is no number",
    b"b 2 0 1 A": "line 2: a second channel of 'b'",
    b"a 1 0 1 <ALT_BEGIN>": "line 2: the word .* a label or a mark",
}


@pytest.mark.parametrize(
    ("read", "line", "fault"),
    [(read_stm, *item) for item in STM_FAULTS.items()] + [(read_ctm, *item) for item in CTM_FAULTS.items()],
)
def test_a_bad_line_is_named(tmp_path, read, line, fault):
    path = tmp_path / "bad"
    path.write_bytes(b"b 1 S 0 1 A\n" if read is read_stm else b"b 1 0 1 A\n")
    assert len(read(path)) == 1
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(UserError, match=f"bad, {fault}") as error:
        read(path)
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


def fault_of(read, path: Path) -> str:
    try:
        read(path)
    except UserError as error:
        return str(error)
    return ""


def test_no_file_takes_long_or_gets_through(tmp_path):
    """Files that were changed at random are read, or are one line; what is no file or has no end is one line."""
    rng = random.Random(0)
    good = [path.read_bytes() for path in write_both(tmp_path, weather(20, seed=4))]
    refused = 0
    for turn in range(500):
        read, content = ((read_stm, good[0]), (read_ctm, good[1]))[turn % 2]
        changed = bytearray(content)
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(changed))
            changed[at : at + rng.choice((0, 1, 30))] = rng.randbytes(rng.choice((0, 1, 3)))
        (tmp_path / "changed").write_bytes(changed)
        said = fault_of(read, tmp_path / "changed")
        refused += said != ""
        assert said == "" or ("\n" not in said and "changed, line" in said)
    assert 10 < refused < 490
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "endless").open("wb") as file:
        file.truncate(1 << 40)
    for name in ("pipe", "endless", "none", "."):
        for read in (read_stm, read_ctm):
            with pytest.raises(UserError, match=r"cannot read|longer than"):
                read(tmp_path / name)


def test_a_file_without_end_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(transcripts, "MOST_WORDS", 100)
    (tmp_path / "wide").write_bytes(b"a 1 S 0 1 " + b"A " * 101)
    (tmp_path / "long").write_bytes(b"\n" * 101)
    for name, line in (("wide", 1), ("long", 101)):
        with pytest.raises(UserError, match=f"{name}, line {line}: more than 100 lines or words"):
            read_stm(tmp_path / name)
