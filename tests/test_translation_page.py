"""A translator's page: attention that is transformers' own, over a clip's own steps; the worst and the best sentences;
and a page that opens without an error, whatever stands in its sentences."""

import base64
import copy
import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from browsing import NARROW, NASTY, browse, browser, data_of, digest
from clips import moving_clip
from processes import on_ranks
from recognition_runs import FRAMES, LINES, write_tokens
from signstream.data.sequences import Padded
from signstream.inference import translate
from signstream.inference.clips import Clip
from signstream.inference.report.page import render_translation
from signstream.inference.report.translation.sentences import worst_and_best
from signstream.inference.translation.translator import Translation
from signstream.inference.translation.written import Result
from signstream.models.metrics.text import TextScores
from signstream.models.text_tokenizer import END
from translation_runs import SENTENCES, Run, make_root, make_run, refused, said_by

for package in ("transformers", "tokenizers", "sacrebleu"):
    pytest.importorskip(package)
pytestmark = pytest.mark.usefixtures("one_thread")
WRONG = {"clip3": "it was cold yesterday, and wet", "clip6": "sun", "clip7": "A storm moves east tonight"}


class Page(dict):
    """What the page's data hold: report, sentences."""

    def render(self) -> str:
        return render_translation(self["report"], self["sentences"])

    def clip(self, name: str) -> dict:
        return next(clip for clip in self["sentences"]["clips"] if clip["name"] == name)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """It knows its clips by heart; three of them then mean something else."""
    run = make_run(tmp_path_factory.mktemp("made"), "model.tiny.layers=2", "model.encoder.frames_a_step=3", steps=120)
    relabel(run, WRONG)
    return run


def relabel(run: Run, sentences: dict[str, str]) -> None:
    notes = run.checkpoint.parents[3] / "data" / "annotations.json"
    about = json.loads(notes.read_text(encoding="utf-8"))
    for name, text in sentences.items():
        about[name]["text"] = text
    notes.write_text(json.dumps(about), encoding="utf-8")


def paged(checkpoints: Path | list[Path], folder: Path, *options: str) -> Page:
    said_by(checkpoints, "--split", "val", "--page", folder, *options)
    page = (folder / "index.html").read_text(encoding="utf-8")
    data = Page(json.loads(data_of(page)))
    assert data.render() == page
    return data


@pytest.fixture(scope="module")
def made(run, tmp_path_factory) -> Page:
    return paged(run.checkpoint, tmp_path_factory.mktemp("page") / "new")


@pytest.fixture
def page(made) -> Page:
    return Page(copy.deepcopy(dict(made)))


def looks_of(clip: dict) -> np.ndarray:
    """[words, steps]"""
    whole = np.frombuffer(base64.b64decode(clip["looks"]), "<i2")
    return whole.reshape(len(clip["words"]), clip["steps"]) / 32000


# -- where the decoder looks


def clips_of(run: Run, *lengths: int) -> Padded:
    """With rubbish in the padding."""
    rows = torch.full((len(lengths), max(lengths), 133, 3), torch.nan)
    for i, length in enumerate(lengths):
        rows[i, :length] = torch.from_numpy(moving_clip(length, i)) / 100
    return Padded({"keypoints": torch.stack([run.translator.view(row) for row in rows])}, lengths)


@torch.no_grad()
def direct(run: Run, padded: Padded, units: tuple[int, ...]) -> torch.Tensor:
    """Of one clip alone, by a network made for it: [U, S']"""
    import transformers

    model = run.translator.models[0]
    config = transformers.MBartConfig(**{**model.text.mbart.config.to_dict(), "attn_implementation": "eager"})
    mbart = transformers.MBartForConditionalGeneration(config).eval()
    mbart.load_state_dict(model.text.mbart.state_dict())
    ids = torch.tensor([[run.translator.tokenizer.target_id, *units]])
    signing = model.read(padded.streams, torch.tensor(padded.lengths))
    out = mbart(inputs_embeds=signing.x, decoder_input_ids=ids, output_attentions=True, use_cache=False)
    assert out.logits[0].argmax(-1).tolist() == [*units, END]  # a row is of the unit that it chooses
    return torch.cat(out.cross_attentions).mean((0, 1))[:-1]


def test_attention_is_transformers_own_over_a_clips_own_steps(run):
    translator, padded = run.translator, clips_of(run, 40, 13, 25)
    translator.decode = translator.decode.__class__(beams=1, max_tokens=24)
    found = translator.say(padded)
    translator.decode = translator.config.decode
    weights = translator.attention(padded, [one.units for one in found])
    assert [tuple(rows.shape) for rows in weights] == [(len(f.units), s) for f, s in zip(found, (14, 5, 9))]
    for i, (rows, one, length) in enumerate(zip(weights, found, padded.lengths)):
        assert rows.sum(1) == pytest.approx(1, abs=1e-5) and rows.min() >= 0
        alone = Padded({"keypoints": padded.streams["keypoints"][i : i + 1, :length]}, (length,))
        torch.testing.assert_close(rows, direct(run, alone, one.units), atol=1e-6, rtol=1e-5)


def test_units_of_a_word_are_joined(run):
    tokenizer = run.translator.tokenizer
    for sentence in (*SENTENCES.values(), "nights shone"):
        row = tokenizer.encode([sentence]).ids[0].tolist()
        words = tokenizer.words(row, apart=False)
        assert [word.text for word in words] == sentence.split()
        assert [place for word in words for place in word.places] == list(range(row.index(END)))
        apart = tokenizer.words(row, apart=True)
        assert "".join(word.text for word in apart) == sentence.replace(" ", "")
    assert len(apart) > len(words) == 2


# -- what is on the page


def test_scores_controls_and_sentences_are_those_of_the_files(run, made, tmp_path):
    again = paged(run.checkpoint, tmp_path / "page", "--controls", "--report", str(tmp_path / "report.json"))
    assert again == made
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert {key: made["report"][key] for key in report} == report and report["controls"]["prior"] is not None
    for clip in made["sentences"]["clips"]:
        assert clip["meant"] == (SENTENCES | WRONG)[clip["name"]] and clip["said"] == SENTENCES[clip["name"]]
        assert clip["words"] == clip["said"].split() and (clip["frames"], clip["steps"]) == (FRAMES, 14)
        assert looks_of(clip).sum(1) == pytest.approx(1, abs=1e-3) and clip["original"]
    assert made["sentences"]["frames_per_step"] == 3
    assert made.clip("clip7")["pairs"][0] == ["A", "a"] and made.clip("clip6")["pairs"].count(["sun", None]) == 0


def test_the_worst_come_first_and_nobody_twice(made):
    clips = made["sentences"]["clips"]
    assert [clip["name"] for clip in clips[:3]] == ["clip6", "clip3", "clip7"] and len(clips) == 8
    assert [clip["best"] for clip in clips] == [False] * 4 + [True] * 4 and clips[-1]["chrf"] == 100
    scores = TextScores("en_XX")
    texts = [f"it is {'very ' * i}cold" for i in range(30)]
    results = [
        Result(Clip(str(i), 1, 1, text=text), (Translation("it is cold", 0.0),), (), i) for i, text in enumerate(texts)
    ]
    shown = worst_and_best([*results, Result(Clip("none", 1, 1), (Translation("x", 0.0),), (), 30)], scores)
    order = [each.result.number for each in shown]
    assert order == [*range(29, 19, -1), *range(10)]


def test_a_sentence_alone_has_sacrebleus_chrf(made):
    from sacrebleu import CHRF

    for clip in made["sentences"]["clips"]:
        expected = CHRF().sentence_score(clip["said"], [clip["meant"]]).score
        assert clip["chrf"] == pytest.approx(expected, abs=0.006)


def test_a_page_of_codes_has_its_chunks_steps_and_skeletons(tmp_path):
    run = make_run(
        tmp_path, "data.source=codes", write_tokens(tmp_path), "model.encoder.tokens.steps_a_chunk=4", steps=60
    )
    sentences = paged(run.checkpoint, tmp_path / "page")["sentences"]
    assert sentences["frames_per_step"] == 2.5 and sentences["parts"]
    for clip in sentences["clips"]:
        assert clip["steps"] == 16 and clip["original"] and looks_of(clip).shape[1] == 16


def test_a_page_of_glosses_has_words_over_glosses(tmp_path):
    make_root(tmp_path)
    run = make_run(tmp_path, "data.source=glosses", steps=60)
    page = paged([run.checkpoint] * 2, tmp_path / "page")
    assert page["report"]["checkpoints"] == 2 and page["sentences"]["parts"] == []
    for clip in page["sentences"]["clips"]:
        assert clip["glosses"] == list(LINES[clip["name"]]) and clip["steps"] == 3 and "original" not in clip
        assert looks_of(clip).sum(1) == pytest.approx(1, abs=1e-3)


def on_each(path: Path, folder: Path, rank: int) -> None:
    options = ("--split", "val", "--out", folder / "out.jsonl", "--page", folder / "page")
    translate.main(["--checkpoint", str(path), *map(str, options)])


def test_ranks_write_one_page(run, made, tmp_path):
    on_ranks(2, partial(on_each, run.checkpoint, tmp_path), tmp_path / "ranks", join=False)
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    found = Page(json.loads(data_of(page)))
    assert found["report"] == made["report"]
    for clip, twin in zip(found["sentences"]["clips"], made["sentences"]["clips"]):
        assert (clip["name"], clip["words"]) == (twin["name"], twin["words"])
        assert looks_of(clip) == pytest.approx(looks_of(twin), abs=1e-4)


def test_what_no_page_can_be_made_of_is_one_line(run, tmp_path):
    np.save(tmp_path / "clip.npy", moving_clip(FRAMES, 0))
    out = run.checkpoint.parent / "out.jsonl"
    page = ("--page", tmp_path / "page")
    for options, told in (
        (("--input", tmp_path / "clip.npy", *page), "--page is of a data set's split"),
        (("--split", "val", "--page", tmp_path / "clip.npy"), "--page .* is no folder"),
        (("--split", "val", "--page", out), "--out .* is where --page writes"),
        (("--split", "val", *page, "--report", tmp_path / "page" / "index.html"), "--report .* is where --page"),
    ):
        assert re.search(told, refused(run.checkpoint, *options))
    make_root(tmp_path)
    notes = tmp_path / "data" / "annotations.json"
    about = json.loads(notes.read_text(encoding="utf-8"))
    for name in about:
        about[name]["text"] = ""
    notes.write_text(json.dumps(about), encoding="utf-8")
    roots = (f"data.root={tmp_path / 'data'}", f"data.cache={tmp_path / 'cache'}")
    assert refused(run.checkpoint, "--split", "val", *page, *roots) and not (tmp_path / "page").exists()


# -- in a browser


def test_the_page_asks_nothing_of_a_network_and_runs_only_its_own_script(made):
    text = made.render()
    shell = text.replace(data_of(text), "")
    assert set(re.findall(r"\w+://[^\s\"'`)]*", shell)) == {"http://www.w3.org/2000/svg"}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    script = shell.split("<script>")[1].split("</script>")[0]
    assert f"script-src '{digest(script)}'" in policy and "default-src 'none'" in policy
    assert "{{" not in shell and "innerHTML" not in script and len(text) < 2e6


ACTS = """
out.painted = painted(); out.title = document.title;
out.controls = rows("#controls").map((row) => row[0]);
const texts = (query, node = document) => [...node.querySelectorAll(query)].map((found) => found.textContent);
out.cards = $$(".sentences .word").map((word) => texts(".meant, .said", word));
out.here = $$(".sentences .word").map((word) => word.classList.contains("here")).indexOf(true);
out.struck = texts(".lines del"); out.ins = texts(".lines ins"); out.rows = texts(".chance .go");
$(".stage").scrollIntoView(); await drawn();
let before = picture();
press("ArrowRight"); out.arrow = frame(); out.moved = picture() !== before;
press("ArrowRight", { shiftKey: true }); out.leap = frame();
$$(".go")[1].click(); out.word = frame(); out.bold = $$(".chance").map((name) => name.classList.contains("here"));
out.values = texts(".chance .value"); out.time = $(".time").textContent;
press(" "); await wait(500); out.played = frame(); press(" ");
$$(".sentences .word")[2].click(); out.chosen = [$(".choose select").value, frame(), $(".lines .said").textContent];
"""
ACTS += NARROW


@browser
def test_the_page_is_used_without_an_error_in_a_narrow_window(made, tmp_path):
    found = browse(made.render(), tmp_path, ACTS, width=500)
    assert found["problems"] == [] and found["beyond"] == []
    assert found["painted"] > 1000 and found["title"].startswith("default")
    assert [name.split("of ")[0] for name in found["controls"]] == ["translations", "shuffled", "silent", "prior"]
    clips = made["sentences"]["clips"]
    assert found["cards"] == [[clip["meant"], clip["said"]] for clip in clips] and found["here"] == 0
    assert found["struck"] == ["sun"] and found["ins"] == clips[0]["words"] == found["rows"]
    assert found["moved"] and (found["arrow"], found["leap"]) == (1, 16)
    looks = looks_of(clips[0])
    peak = int(looks[1].argmax())
    assert found["word"] == min(3 * peak, FRAMES - 1) and found["time"].endswith(f"step {peak + 1}")
    assert found["values"] == [f"{int(100 * x + 0.5)} %" for x in looks[:, peak]] and any(found["bold"])
    assert found["played"] != found["word"] and found["chosen"] == ["2", 0, clips[2]["said"]]
    assert "BLEU-4" in found["text"] and "nrefs:1|case:mixed|eff:no|tok:13a" in found["text"]
    assert "the mean over all heads of 2 layers" in found["text"] and "first checkpoint" not in found["text"]


@browser
@pytest.mark.parametrize("glosses", [False, True])
def test_sentences_appear_as_they_are_and_run_nothing(page, glosses, tmp_path):
    nasty = NASTY.replace("\ud800", "").replace("\u2028", "")
    report, sentences = page["report"], page["sentences"]
    report["name"] = report["source"] = report["controls"]["said"] = nasty
    report["checkpoints"] = 2
    clip = sentences["clips"][0]
    sentences["clips"] = [clip]
    clip.update(name=nasty, signer=nasty, meant=nasty, said=nasty, pairs=[[nasty, None], [None, nasty]])
    clip["words"] = [nasty, *clip["words"][1:]]
    if glosses:
        sentences["parts"], clip["glosses"] = [], [nasty] * clip["steps"]
        del clip["original"], clip["box"]
    script = 'out.images = $$("img").length; out.h1 = $("h1").textContent; out.stages = $$(".stage").length;'
    found = browse(page.render(), tmp_path, script + NARROW, width=500)
    assert found["problems"] == [] and found["hacked"] is None and found["images"] == 0 and found["h1"] == nasty
    assert found["beyond"] == [] and found["stages"] == (0 if glosses else 1)
    assert re.sub(r"\s+", " ", found["text"]).count(re.sub(r"\s+", " ", nasty).strip()) >= (9 if glosses else 8)
    assert "It is the first checkpoint's attention" in found["text"]


@browser
def test_a_clip_of_which_nothing_was_said_says_so(page, tmp_path):
    clip = page["sentences"]["clips"][0]
    clip.update(said="", words=[], looks="", pairs=[[word, None] for word in clip["meant"].split()], cut=True)
    page["report"]["controls"]["shuffled"] = None
    found = browse(page.render(), tmp_path)
    assert found["problems"] == []
    for words in ("Nothing was said of this clip.", "Only the beginning of this clip", "nothing", "–"):
        assert words in found["text"]


def test_a_sentence_with_a_script_in_it_is_text(run, tmp_path):
    relabel(run, {"clip0": "<script>window.hacked=1</script> </script>"})
    roots = (f"data.cache={tmp_path / 'cache'}",)
    page = paged(run.checkpoint, tmp_path / "page", *roots)
    assert page.clip("clip0")["meant"] == "<script>window.hacked=1</script> </script>"
    text = page.render()
    assert text.count("<script") == 2 and text.count("</script") == 2
    relabel(run, {"clip0": SENTENCES["clip0"]})
