"""The page of live runs: what of long recordings it shows, and that text stands there at its time."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from browsing import NARROW, NASTY, browse, browser, data_of, digest
from live_events import FRAMES, lines_of, make_place, make_report, measured, reported
from signstream.inference.report.live import player as player_module
from signstream.inference.report.live.measure import SaidSentence
from signstream.inference.report.live.player import kept_of
from signstream.inference.report.page import render_live
from signstream.models.metrics.latency import Said, Unit
from signstream.models.metrics.text import TextScores

pytest.importorskip("sacrebleu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return make_place(tmp_path_factory.mktemp("live"))


@pytest.fixture(scope="module")
def made(place, tmp_path_factory) -> SimpleNamespace:
    return make_report(place, tmp_path_factory.mktemp("report") / "new")


# -- what is shown


def test_what_is_taken_back_is_whole_words():
    for before, after, kept in (
        ("the cat", "the cats", 7),
        ("the cat sat", "the cats", 4),
        ("the cat sat", "the cat", 7),
        ("the bicycle", "the bic", 4),
        ("the cat", "a cat", 0),
        ("", "a", 0),
    ):
        assert kept_of(before, after) == kept
    assert kept_of("你好吗", "你好的", apart=True) == 2


def test_the_page_has_each_text_with_its_time(made):
    clips = {clip["name"]: clip for clip in made.data["player"]["clips"]}
    long = clips["long"]
    assert long["updates"] == [
        [510, "", "it", 0, ""],
        [1020, "it", " snows", 2, ""],
        [1530, " rains", " moon", 3, "snows"],
        [2040, " sun shines", "", 9, "moon"],
    ]
    assert [(one["begins"], one["ends"], one["said"]) for one in long["sentences"]] == [
        (0, 1000, [1020, 1530]),
        (1200, 2000, [2040, 2040]),
    ]
    assert long["between"] == [[1000, 1200, "pause"]] and (long["posed"], long["cut"]) == (FRAMES, False)
    assert long["frames"] == 77  # 2040 + 500 ms
    assert [one["begins"] for one in clips["short"]["sentences"]] == [0]


def test_of_a_long_recording_a_stretch_is_shown_and_the_page_stays_small(place, made, tmp_path, monkeypatch):
    monkeypatch.setattr(player_module, "MOST_FRAMES", 60)
    monkeypatch.setattr(player_module, "STRETCH", 1)
    monkeypatch.setattr(player_module, "LEAD", 100)
    reported(place, tmp_path / "page")
    player = json.loads(data_of((tmp_path / "page" / "index.html").read_text(encoding="utf-8")))["player"]
    assert sum(clip["posed"] for clip in player["clips"]) <= 60 and all(clip["cut"] for clip in player["clips"])
    long = next(clip for clip in player["clips"] if clip["name"] == "long")
    assert (long["begins"], long["posed"], len(long["sentences"])) == (0, 30, 2 if long["frames"] > 36 else 1)
    assert [update[0] for update in long["updates"]] == [510]
    most = 6000 * 133 * 2 * 2 * 4 / 3
    assert most < 4.5e6, "bytes of positions"


def test_text_from_before_a_stretch_is_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(player_module, "EARLIER", 4)
    clip = measured(lines_of("a"), tmp_path).clips[0]
    shown = player_module.texts_of(clip, 1600, 3000, apart=False)
    assert shown == {
        "earlier": "ains",
        "guess": " moon",
        "more": True,
        "updates": [[2040, " sun shines", "", 5, "moon"]],
    }


def test_a_stretch_begins_with_a_sentence_and_is_neither_the_best_nor_the_worst(tmp_path):
    clip = measured(lines_of("a"), tmp_path).clips[0]
    said = (("aaaa", "zzzz"), ("aaaa", "aaaa"), ("aaaa", "aazz"), ("aaaa", "aaaa"), ("aaaa", "zzzz"))
    sentences = tuple(
        SaidSentence(meant, Said([Unit(text, 0, 0)], 900, 1), 1000.0 * i) for i, (meant, text) in enumerate(said)
    )
    recording = SimpleNamespace(sentences=("several",))
    clip = clip._replace(sentences=sentences, meant=clip.meant._replace(recording=recording))
    stretch = player_module.stretch_of(clip, 150, 30, most=30, scores=TextScores("en_XX"))
    assert (stretch.first, stretch.stop, stretch.end) == (45, 75, 2500)  # half a second before the third
    whole = player_module.stretch_of(clip, 60, 30, most=90, scores=TextScores("en_XX"))
    assert (whole.first, whole.stop, whole.end) == (0, 60, 2540)


# -- in a browser


def test_the_page_asks_nothing_of_a_network_and_runs_only_its_own_script(made):
    shell = made.text.replace(data_of(made.text), "")
    assert set(re.findall(r"\w+://[^\s\"'`)]*", shell)) == {"http://www.w3.org/2000/svg"}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', made.text)[1]
    script = shell.split("<script>")[1].split("</script>")[0]
    assert f"script-src '{digest(script)}'" in policy and "default-src 'none'" in policy
    assert "{{" not in shell and "innerHTML" not in script and len(made.text) < 1e6


ACTS = """
const at = (ms) => {
  const scrub = $(".scrub");
  scrub.value = Math.ceil(ms * 0.03);
  scrub.dispatchEvent(new Event("input"));
};
const seen = () => $(".captions").textContent.replace(/\\s+/g, " ").trim();
const some = (query) => $$(`.captions ${query}`).map((node) => node.textContent);
choose(".choose select", $$(".choose option").findIndex((option) => option.textContent.startsWith("long")));
out.start = seen(); out.painted = painted();
out.texts = [];
for (const ms of [600, 1100, 1600, 2100, 1600, 400]) { at(ms); out.texts.push(seen()); }
at(1600); out.parts = { struck: some("del"), fresh: some(".fresh"), guess: some(".guess") };
at(2250); out.newest = some(".fresh");
at(2540); out.held = painted(); out.over = $(".time").textContent; out.end = some("del");
out.here = $$(".sentences .word.here .meant").map((node) => node.textContent);
$$(".sentences .word")[0].click(); out.clicked = [frame(), $$(".ahead").length];
const lanes = [".signed .cell", ".waits .cell", ".words .mark.word", ".words .mark.back"];
out.lanes = lanes.map((query) => $$(query).length);
$$(".signed .cell")[1].click(); out.cell = frame();
at(900); press("ArrowRight"); out.arrow = frame();
$(".stage").scrollIntoView(); await drawn();
press(" "); await wait(900); press(" "); out.played = [frame(), seen()];
out.heads = $$(".live-runs thead tr").map((row) => row.textContent);
out.rows = rows(".panel").map((row) => row[0]); out.plot = $(".plot").complete && $(".plot").naturalWidth;
out.width = document.documentElement.scrollWidth <= innerWidth;
out.paper = getComputedStyle(document.body).backgroundColor;
"""


def acted(made, folder: Path, width: int, dark: bool) -> dict:
    flags = (f"--blink-settings=preferredColorScheme={0 if dark else 1}",)
    return browse(made.text, folder, ACTS + (NARROW if width < 600 else ""), width=width, flags=flags)


@browser
@pytest.mark.parametrize(("width", "dark"), [(1320, False), (1320, True), (500, False), (500, True)])
def test_text_stands_there_at_its_time_however_one_comes_there(made, tmp_path, width, dark):
    found = acted(made, tmp_path, width, dark)
    assert found["problems"] == [] and found.get("beyond", []) == [] and found["width"]
    assert found["paper"] == ("rgb(20, 24, 27)" if dark else "rgb(253, 253, 252)") and found["painted"] > 1000
    assert found["start"] == "nothing has been said yet"
    assert found["texts"] == [
        *("it", "it snows", "it snows rains moon", "it snows rains moon sun shines"),
        *("it snows rains moon", "nothing has been said yet"),
    ]
    assert found["parts"] == {"struck": ["snows"], "fresh": ["it", "rains"], "guess": ["moon"]}
    assert (
        found["over"].startswith("0:02.5 of 0:02.0") and "over" in found["over"] and found["end"] == ["snows", "moon"]
    )
    assert found["newest"] == ["sun shines"] and found["held"] > 1000
    assert found["here"] == ["sun shines"] and found["clicked"] == [0, 2]
    assert found["lanes"] == [4, 2, 4, 2] and found["cell"] == 36 and found["arrow"] == 28
    assert found["played"][0] > 28 and "it" in found["played"][1]
    assert found["heads"][0] == "own:0.5own.jsonlshuffledcontrolown:0.9late.jsonlwait:3wait.jsonl"
    assert "StreamLAAL" in found["rows"] and "real-time factor" in found["rows"] and found["plot"] > 500


@browser
def test_what_was_taken_back_twice_is_struck_where_the_text_is_left(made, tmp_path):
    player = json.loads(json.dumps(made.data["player"]))
    player["clips"][0]["updates"] = [[100, "", "a b c", 0, ""], [200, "", "a b d", 4, "c"], [300, "", "e", 0, "a b d"]]
    script = '$(".scrub").value = 12; $(".scrub").dispatchEvent(new Event("input"));'
    script += 'out.seen = [...$(".captions").childNodes].map((node) => `${node.nodeName} ${node.textContent}`);'
    found = browse(render_live(made.report, player), tmp_path, script)
    pieces = [piece for piece in found["seen"] if piece.split(" ", 1)[1].strip()]
    assert found["problems"] == [] and pieces == ["DEL c", "DEL a b d", "SPAN e"]


@browser
def test_it_opens_on_the_middle_one(made, tmp_path):
    player = json.loads(json.dumps(made.data["player"]))
    player["clips"] = [dict(player["clips"][0], name=name) for name in "abcde"]
    found = browse(
        render_live(made.report, player),
        tmp_path,
        'out.opens = [$(".choose option:checked").textContent, $(".stage").ariaLabel, picture().length > 3000];',
    )
    assert (
        found["problems"] == [] and found["opens"][0].startswith("c ") and found["opens"][1:] == ["skeleton of c", True]
    )


@browser
def test_texts_appear_as_they_are_and_run_nothing(made, tmp_path):
    nasty = NASTY.replace("\ud800", "").replace("\u2028", "")
    report, player = (json.loads(json.dumps(made.data[key])) for key in ("report", "player"))
    report["runs"][0]["name"] = report["runs"][1]["name"] = report["runs"][1]["file"] = nasty
    clip = player["clips"][0]
    player["clips"] = [clip]
    clip.update(name=nasty, signer=nasty, earlier=nasty, guess=nasty, updates=[[0, nasty, nasty, 3, nasty]])
    clip["between"], clip["recording"] = [[0, 300, nasty]], True
    for sentence in clip["sentences"]:
        sentence["pairs"] = [[nasty, None], [None, nasty]]
    found = browse(render_live(report, player), tmp_path, 'out.images = $$("img").length;' + NARROW, width=500)
    assert found["problems"] == [] and found["hacked"] is None and found["images"] == 0 and found["beyond"] == []
    assert re.sub(r"\s+", " ", found["text"]).count(re.sub(r"\s+", " ", nasty).strip()) >= 8


@browser
def test_a_clip_of_which_nothing_was_said_or_meant_still_has_its_player(made, tmp_path):
    report, player = (json.loads(json.dumps(made.data[key])) for key in ("report", "player"))
    clip = player["clips"][0]
    clip.update(updates=[], chrf=None, sentences=[dict(clip["sentences"][0], said=[], pairs=[])])
    for run in report["runs"]:
        run["numbers"] = dict.fromkeys(run["numbers"])
    found = browse(render_live(report, player), tmp_path)
    assert found["problems"] == [] and "nothing was said of it" in found["text"] and "–" in found["text"]
