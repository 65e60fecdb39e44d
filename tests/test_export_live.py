"""Export of what is said while signing goes on: its words are those of the sentence, and wait for their signs."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from signstream.config import Data
from signstream.data.earliest import words_in
from signstream.data.live_targets import Targets, ids_of_words
from signstream.inference import export_tokens
from signstream.inference.export_live import line_of
from signstream.io.cache_index import CachedClip
from signstream.tokens.format import read_jsonl
from signstream.tokens.llm import live
from signstream.tokens.vocabulary import Vocabulary
from test_export import Tiny, export, make_tiny, val

CLIP = CachedClip("a", "train", 0, 50, 50, 25.0, True, None, "the red dog", "DOG RED", "0", ())


class Letters:
    """Stands for a tokenizer of transformers: an id a letter."""

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict:
        return {"input_ids": [ord(letter) % 500 for letter in text]}

    def __len__(self) -> int:
        return 500


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("made"))


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_both_forms_are_written_and_the_first_is_what_it_was(tiny, tmp_path, monkeypatch, capsys):
    fake = SimpleNamespace(AutoTokenizer=SimpleNamespace(from_pretrained=lambda path: Letters()))
    monkeypatch.setitem(sys.modules, "transformers", fake)
    plain, both, text = (tmp_path / name / "out.jsonl" for name in ("plain", "both", "text"))
    assert export(tiny, plain, "--tokenizer", "letters") == 0
    assert export(tiny, both, "--tokenizer", "letters", "--live") == 0
    assert export(tiny, text, "--to-llm", "--text-vocab-size", "500", "--live") == 0
    assert "; live by segments 10" in capsys.readouterr().out
    there = {path.name: path.read_bytes() for path in both.parent.iterdir()}
    spoken = there.pop("out.live.jsonl")
    assert there == {path.name: path.read_bytes() for path in plain.parent.iterdir()}
    vocabulary = replace(tiny.tokenizer.vocabulary, offset=500)
    ids, words = lines_of(both.with_suffix(".live.jsonl")), lines_of(text.with_suffix(".live.jsonl"))
    assert len(spoken.splitlines()) == len(ids) == len(val(tiny))
    for line, parts, tokens, i in zip(ids, words, read_jsonl(both), val(tiny), strict=True):
        clip = tiny.cache.clips[i]
        check_line(line, parts, clip, vocabulary)
        assert vocabulary.chunks(tokens.codes, longest=1) == parts["chunks"]


def check_line(line: dict, parts: dict, clip: CachedClip, vocabulary: Vocabulary) -> None:
    assert line["video_name"] == parts["video_name"] == clip.name and line["by"] == parts["by"] == "segments"
    assert parts["words"] == words_in(clip.text) and "".join(parts["words"]) == clip.text
    spelt = [Letters()(word)["input_ids"] for word in parts["words"]]
    built = live(vocabulary, parts["chunks"], spelt, after=parts["after"])
    assert {key: line[key] for key in built._fields} == built._asdict()
    first = min((stop - 1) // 10 for _, stop, _ in clip.segments)
    assert first <= parts["after"][0] and parts["after"][-1] < len(parts["chunks"])


def tokens(chunks: int, vocabulary: Vocabulary) -> SimpleNamespace:
    ids = [vocabulary.special("<SIGN>"), *[vocabulary.special("<NONE>")] * chunks, vocabulary.special("</SIGN>")]
    return SimpleNamespace(name="a", chunk_len=5, codes=vocabulary.decode(ids))


def after(clip: CachedClip, signs: Path | None, source: Any = None) -> tuple[str, list[int]]:
    """Of a clip of 10 chunks of a fifth of a second, beside others that say which word is which gloss."""
    names = ("dog", "red", "one", "cat", "sea")
    pairs = [(f"the {a} the {b}", f"{b} {a}".upper()) for a in names for b in names if a != b]
    others = [replace(CLIP, text=text, gloss=gloss) for text, gloss in pairs]
    cache = SimpleNamespace(clips=[clip, *others], splits={"train": range(1 + len(others))})
    vocabulary = Vocabulary(("F",), (1,), 4)
    targets = Targets.of(cache, replace(Data(), fps=25.0), signs, source=source)
    line = line_of(targets, tokens(10, vocabulary), clip, vocabulary=vocabulary, rle=True, text_ids=None)
    return line["by"], line["after"]


def test_each_sentence_of_a_recording_waits_for_its_own_signs():
    """Two sentences of five chunks, which say the same in another order."""
    texts, spans = ("the red dog", "the dog red"), ((0, 24), (25, 49))
    note = {"sentences": [{"start": a, "end": b, "text": text} for text, (a, b) in zip(texts, spans)]}
    segments = ((2, 10, "RED"), (12, 20, "DOG"), (27, 35, "DOG"), (37, 45, "RED"))
    recording = replace(CLIP, text=" ".join(texts), gloss="", segments=segments)
    source = SimpleNamespace(root="here", note=lambda split, name: note if name == "a" else None)
    assert after(recording, None, source) == ("segments", [1, 1, 3, 6, 6, 8])
    note["sentences"][0]["text"] = "another text"  # then it is one clip: a word's first time means its sign's first
    assert after(recording, None, source) == after(recording, None)
    note["sentences"][0]["text"] = texts[0]
    some = replace(recording, segments=segments[:2])  # of the second nothing is known but when it was signed
    assert after(some, None, source) == ("segments", [1, 1, 3, 6, 8, 9])


def test_segments_come_first_then_the_recogniser_then_shares(tmp_path):
    signs = tmp_path / "recognised.jsonl"
    seen = [{"gloss": "DOG", "first": 9, "last": 11}, {"gloss": "RED", "first": 20, "last": 29}]
    signs.write_text(json.dumps({"name": "a", "signs": seen, "fps": 50}) + "\n")
    # at 25 frames a second 0 .. 5 and .. 15 are the recogniser's
    assert after(CLIP, None) == ("share", [3, 6, 9])
    assert after(CLIP, signs) == ("recogniser", [1, 2, 2])
    assert after(replace(CLIP, name="b"), signs) == ("share", [3, 6, 9])
    known = replace(CLIP, segments=((0, 21, "DOG"), (22, 40, "RED")))
    assert after(known, signs) == after(known, None) == ("segments", [4, 7, 7])
    assert after(replace(known, fps=50.0), None) == ("segments", [2, 3, 3])


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"name": "a", "signs": [], "fps": "x"}',
        '{"name": "a", "signs": [], "fps": 0}',
        '{"name": "a", "signs": [], "fps": NaN}',
        '{"name": 3, "signs": [], "fps": 25}',
        '{"name": "a", "signs": [{"gloss": "A"}], "fps": 25}',
        '{"name": "a", "signs": [{"gloss": 1, "last": 3}], "fps": 25}',
        '{"name": "a", "signs": [{"gloss": "A", "last": 3.5}], "fps": 25}',
        "[" * 100_000,
        "",
    ],
)
def test_a_file_of_signs_that_is_none(tmp_path, line):
    path = tmp_path / "signs.jsonl"
    path.write_text('{"name": "a", "signs": [], "fps": 25}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"--signs .*, line 2: .* is none of recognize's lines"):
        after(CLIP, path)


def test_options_that_do_not_go_together(tmp_path):
    for options, message in (
        (("--live",), "--live is what --to-llm writes besides: add --to-llm"),
        (("--to-llm", "--text-vocab-size", "9", "--live", "--augment", "0"), "--live .* which --augment moves"),
        (("--to-llm", "--text-vocab-size", "9", "--signs", "x"), "--signs says .* which --live writes"),
        (("--to-llm", "--text-vocab-size", "9", "--wait", "1"), "--wait says .* which --live writes"),
        (("--to-llm", "--text-vocab-size", "9", "--live", "--wait", "-1"), "--wait is -1: chunks, 0 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            export_tokens.main(["--out", str(tmp_path / "out"), *options])
    with pytest.raises(ValueError, match=r"--signs .*missing: "):
        after(CLIP, tmp_path / "missing")


def test_words_that_wait_are_due_later_but_not_beyond_the_end_and_such_files_do_not_mix(tiny, tmp_path):
    text = ("--to-llm", "--text-vocab-size", "500", "--live")
    assert export(tiny, tmp_path / "soon.jsonl", *text) == 0
    assert export(tiny, tmp_path / "late.jsonl", *text, "--wait", "3") == 0
    soon, late = (lines_of(tmp_path / f"{name}.live.jsonl") for name in ("soon", "late"))
    assert [line["chunks"] for line in soon] == [line["chunks"] for line in late]
    for early, line in zip(soon, late, strict=True):
        assert line["after"] == [min(chunk + 3, len(line["chunks"])) for chunk in early["after"]]
    targets = Targets.of(tiny.cache, Data(), None)
    assert len({targets.check, targets.later(2).check, targets.later(3).check}) == 3


def test_words_share_the_ids_of_the_whole_text():
    def pairs(text: str) -> list[int]:
        """Two letters an id, whatever words they are of."""
        return [ord(text[i]) * 300 + ord(text[i + 1 : i + 2] or " ") for i in range(0, len(text), 2)]

    assert ids_of_words(["ab", "cd"], pairs) == [pairs("ab"), pairs("cd")]
    assert ids_of_words(["abc", "de", "f"], pairs) == [[], [], pairs("abcdef")]
    assert ids_of_words(["abc", "def", "gh"], pairs) == [[], pairs("abcdef"), pairs("gh")]
    assert ids_of_words([], pairs) == []
