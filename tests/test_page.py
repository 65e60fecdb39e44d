import json
import re

import pytest

from browsing import CHROMIUM, NARROW, NASTY, browse, browser, data_of, digest
from page_data import make_player, make_report
from signstream.inference.report.joint_map import joint_map
from signstream.inference.report.page import render, render_compare
from signstream.inference.report.sections import SECTIONS
from signstream.pictures.figure import COLOURS


def test_data_come_back_as_they_were_and_nothing_in_them_can_end_the_script():
    report = make_report(NASTY)
    report["recon"]["face"]["local"] = float("nan")
    page = render(report, {"clips": [{"name": NASTY}]})
    text = data_of(page)
    assert text.isascii() and "<" not in text
    back = json.loads(text)
    assert (
        back["report"]["run"]["name"] == NASTY
        and back["player"]["clips"][0]["name"] == NASTY
        and back["report"]["recon"]["face"]["local"] is None
    )
    assert page.count("<script") == 2 and page.count("</script") == 2
    page.encode("utf-8")


def test_a_page_asks_nothing_of_a_network_and_runs_only_its_own_script():
    for page in (render(make_report(), make_player(1)), render_compare([make_report(), make_report("other", 1)])):
        shell = page.replace(data_of(page), "")
        assert set(re.findall(r"\w+://[^\s\"'`)]*", shell)) == {"http://www.w3.org/2000/svg"}  # a name, never fetched
        assert not re.search(r"<[^>]*\s(on\w+|src|href)\s*=", shell.split("<script>")[0])
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
        script, style = shell.split("<script>")[1].split("</script>")[0], shell.split("<style>")[1].split("</style>")[0]
        assert policy == (
            f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; img-src data:; "
            "base-uri 'none'; form-action 'none'"
        )
        assert "{{" not in shell and "innerHTML" not in script


def test_ten_clips_of_five_seconds_with_no_code_twice_make_less_than_five_megabytes():
    player = make_player(10, frames=150, book=150)
    assert len(player["clips"]) == 10 and all(len(codes) > 120 for codes in player["dictionary"].values())
    assert len(render(make_report(size=1024), player).encode()) < 5e6


def test_parts_have_the_colours_that_pictures_have():
    style = re.search(r"<style>(.*?)</style>", render(make_report()), re.S)[1]
    for part in ("body", "face", "left_hand", "right_hand"):  # full_body needs one of its own beside the body
        assert f"--{part}: {COLOURS[part].lower()};" in style.split("@media")[0]


def test_the_joint_map_has_a_place_of_its_own_for_every_joint():
    figure = joint_map()
    assert len(figure["xy"]) == 133 and len({tuple(xy) for xy in figure["xy"]}) == 133
    assert all(-7.3 < x < 7.3 and -1.7 < y < 10.3 for x, y in figure["xy"])


ACTS = """
const says = (panel) => panel.querySelector(".lead, .missing") || panel.matches("#steadiness *, #training *, #run *");
out.silent = $$(".panel").filter((panel) => !says(panel)).map((panel) => panel.innerText);
out.judged = rows("#meaning");
out.signs = rows("#signs");
out.told = $$("#meaning .bars .label").map((label) => label.textContent);
out.checks = $$(".verdicts li p:first-child").map((text) => text.textContent);
out.start = { card: $(".card h3").textContent, painted: painted(), playing: button("Pause") !== undefined };
choose(".choose select", 0);
out.first = frame();
let before = picture();
press("ArrowRight"); out.arrow = frame(); out.moved = picture() !== before;
press("ArrowRight", { shiftKey: true }); out.chunk = frame();
press("ArrowLeft", { shiftKey: true }); press("ArrowLeft"); out.back = frame(); out.same = picture() === before;
$(".scrub").value = 60; $(".scrub").dispatchEvent(new Event("input")); out.scrubbed = $(".time").textContent;
out.cursor = $(".cursor").style.left;
press(" "); await wait(500); out.played = frame(); press(" "); await wait(300); out.paused = frame();
choose(".controls select", 0.25); button("Play").click(); await wait(500); await drawn();
out.slow = frame() - out.paused; button("Pause").click();
before = picture();
const toggled = (box) => {
  box.click(); const off = picture() !== before; box.click();
  return off && picture() === before;
};
out.toggles = $$(".toggle input").map(toggled);
const overlay = $(".controls input"); overlay.click(); out.overlaid = picture() !== before; overlay.click();
const cell = $$(".cells")[2].children[3];
cell.click();
out.clicked = { frame: frame(), name: cell.getAttribute("aria-label"), card: $(".card h3").textContent,
  drawn: $(".card canvas") !== null, marked: cell.classList.contains("same"), focusable: cell.tabIndex };
out.held = $$(".held").length;
$$(".cell").find((c) => { c.click(); return $$(".card .place").length > 1; });
const other = $$(".card .place").find((p) => !p.classList.contains("here"));
out.elsewhere = { tip: other.dataset.tip, code: $(".card h3").textContent };
other.click();
const clip = $(".choose select").selectedOptions[0].textContent;
out.elsewhere.after = { clip, time: $(".time").textContent, code: $(".card h3").textContent };
$(".dictionary").open = true; await drawn(); out.dictionary = $$(".grid .place").length;
$(".grid .place").click(); out.from_dictionary = $(".card h3").textContent;
$(".latents circle").dispatchEvent(new MouseEvent("click", { bubbles: true }));
out.from_latents = [frame(), $(".card h3").textContent];
choose(".choose select", 2); out.unseen = $(".unseen").textContent; out.no_hands = painted();
"""


@pytest.fixture(scope="module")
def acted(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    return browse(render(make_report(), make_player()), tmp_path_factory.mktemp("acted"), ACTS)


@browser
def test_the_page_loads_and_is_used_without_an_error(acted):
    assert acted["problems"] == []
    assert acted["silent"] == []
    assert (
        acted["start"]["painted"] > 2000
        and not acted["start"]["playing"]
        and re.fullmatch(r"Right hand, code \d+", acted["start"]["card"])
    )


@browser
def test_what_the_judge_read_has_a_table(acted):
    assert [row[0] for row in acted["judged"]] == ["keypoints", "tokens", "tokens of other clips"]
    assert acted["judged"][1][1:] == ["17.4 %", "21.0 %", "33"]
    assert (
        "6 codes a chunk, held below 0.100. By configs/recognition_judge.yaml, 30 epochs, seed 42: 1 seed."
        in (acted["text"])
    )


@browser
def test_what_signs_are_made_of_has_a_row_a_number(acted):
    hands, face = acted["signs"][:9], acted["signs"][9:]
    assert hands[0] == ["location", "0.0940", "0.0940", "0.0940", "0.132", "0.376", "shoulder widths"]
    assert hands[7] == ["movement", "0.800", "0.800", "0.800", "0.720", "–", "correlation"]
    assert face[0] == ["mouth opening", "0.0600", "0.800", "0.850", "", "0.0840", "0.720", "0.790"]
    assert [row[0] for row in face] == ["mouth opening", "mouth width", "brows"]


@browser
def test_what_tokens_cost_comes_first_and_its_numbers_stand_under_meaning(acted):
    assert acted["checks"][0].startswith("Tokens keep 91 %")
    assert acted["told"][:6] == ["keypoints", "latents", "tokens", "counts of codes", "shuffled codes", "chance"]


@browser
def test_a_report_from_before_the_probe_read_keypoints_is_shown_and_compared(tmp_path):
    old = make_report("old")
    for name in ("tokens", "keypoints"):
        del old["meaning"]["clips"][name]
    script = 'out.told = $$("#meaning .bars .label").map((label) => label.textContent).slice(0, 4);'
    found = browse(render(old, None), tmp_path, script)
    assert found["problems"] == [] and found["told"] == ["latents", "counts of codes", "shuffled codes", "chance"]
    found = browse(render_compare([old, make_report("new")]), tmp_path, 'out.meaning = rows("#meaning");')
    assert found["problems"] == []
    assert ["clips, tokens", "\u2013", "75.0 %"] in found["meaning"], found["meaning"]


@browser
@pytest.mark.parametrize("compare", [False, True])
def test_nothing_stands_out_of_a_narrow_window(compare, tmp_path):
    page = render_compare([make_report()] * 2) if compare else render(make_report(), make_player(1))
    found = browse(page, tmp_path, NARROW, width=500)
    assert found["problems"] == [] and found["beyond"] == [] and found["long"] == 0


@browser
def test_playing_scrubbing_and_keys_move_the_picture(acted):
    assert (acted["first"], acted["arrow"], acted["chunk"], acted["back"]) == (0, 1, 11, 0)
    assert acted["moved"] and acted["same"]
    assert acted["scrubbed"].startswith("frame 61 of") and float(acted["cursor"].rstrip("%")) == pytest.approx(
        100 * 60.5 / 140, abs=0.1
    )
    assert acted["played"] - 60 > acted["slow"] > 0 and acted["paused"] == acted["played"]


@browser
def test_a_part_switched_off_leaves_the_picture_and_comes_back(acted):
    assert acted["toggles"][:4] == [True] * 4  # full_body alone has feet, which this clip does not show
    assert acted["overlaid"]


@browser
def test_a_code_opens_its_card_and_leads_to_its_other_places(acted):
    clicked = acted["clicked"]
    chunk, codes = re.match(r"right hand, chunks? (\d+)[^:]*: (\d+)", clicked["name"]).groups()
    assert clicked["frame"] == 10 * (int(chunk) - 1) and clicked["card"] == f"Right hand, code {codes}"
    assert clicked["drawn"] and clicked["marked"] and clicked["focusable"] == 0 and acted["held"] > 0
    elsewhere = acted["elsewhere"]
    name, chunk = re.match(r"(\S+), chunk (\d+)", elsewhere["tip"]).groups()
    after = elsewhere["after"]
    assert after["clip"] == name and after["time"].endswith(f"chunk {chunk}") and after["code"] == elsewhere["code"]
    assert acted["dictionary"] > 5 and "code" in acted["from_dictionary"] and acted["from_latents"][0] == 0


@browser
def test_a_clip_without_hands_says_so_and_is_drawn(acted):
    assert acted["unseen"] == "Nowhere visible in this clip: left hand, right hand." and acted["no_hands"] > 1000


@browser
def test_names_and_texts_appear_as_they_are_and_run_nothing(tmp_path):
    nasty = NASTY.replace("\ud800", "").replace("\u2028", "")
    report, player = make_report(nasty), make_player(1)
    report["verdict"][0] = {"grade": "good", "text": nasty, "advice": nasty}
    report["per_signer"] = {nasty: {"clips": 1, "local": 0.1}}
    report["steady"], report["notes"], report["config"] = (
        {nasty: report["stay"]},
        [f"meaning: segments {nasty}"],
        {nasty: nasty},
    )
    player["clips"][0].update(name=nasty, text=nasty, gloss=nasty, signer=nasty)
    script = """const places = { h1: "h1", option: "option", clip: ".text q", gloss: ".gloss" };
    for (const [key, query] of Object.entries(places)) out[key] = $(query).textContent;
    out.images = $$("img").length; out.title = document.title;"""
    found = browse(render(report, player), tmp_path, script)
    assert found["problems"] == [] and found["hacked"] is None and found["images"] == 0
    assert {found[key] for key in ("h1", "option", "clip", "gloss")} == {nasty} and found["title"].startswith(
        nasty[:20]
    )
    assert re.sub(r"\s+", " ", found["text"]).count(re.sub(r"\s+", " ", nasty).strip()) >= 6


def empty_report() -> dict:
    report = make_report()
    report["run"].update(clips=0, chunks=0, frames=0, seconds=0.0)
    report |= dict.fromkeys(SECTIONS) | {"efficiency": {}, "judge": None, "training": None}
    return {
        **report,
        "verdict": [{"grade": "bad", "text": "The val split holds no clip.", "advice": "Look at data.root."}],
    }


@browser
def test_an_empty_split_still_makes_a_page(tmp_path):
    found = browse(render(empty_report(), None), tmp_path)
    assert found["problems"] == []
    assert (
        "The val split is empty: there was nothing to measure." in found["text"]
        and "There are no clips to look at." in found["text"]
    )
    assert found["text"].count("Not measured.") == 16


@browser
def test_a_dead_level_and_numbers_that_do_not_exist_are_said(tmp_path):
    report, player = make_report(), make_player(1)
    report["codes"]["face"][2] = {
        "used": 0.0,
        "dead": 1.0,
        "perplexity": None,
        "entropy": None,
        "count": 0,
        "counts": [0] * 512,
    }
    report["recon"]["left_hand"] = dict.fromkeys(report["recon"]["left_hand"])
    report["per_joint"], report["by_frame"]["face"], report["per_signer"] = [None] * 133, [None] * 10, {}
    report["mutual"]["bits"][0] = [None] * 5
    report["meaning"] = {"clips": None, "segments": None, "agreement": None}
    report["training"] = {"train": {"step": [1], "loss": [float("inf")]}, "val": {"step": [], "loss": []}}
    for part in ("definitions", "smooth", "notes", "curve", "verdict"):
        del report[part]
    del player["dictionary"], player["clips"][0]["latents"], player["clips"][0]["held"]
    player["clips"][0].update(
        text="",
        gloss="",
        codes={tag: [[-1, -1, -1]] * len(codes) for tag, codes in player["clips"][0]["codes"].items()},
    )
    found = browse(render(report, player), tmp_path)
    assert found["problems"] == []
    for words in ("dead\nnever used", "No code was sent for this chunk.", "no text", "–", "Not measured."):
        assert words in found["text"]


@browser
def test_runs_are_compared_side_by_side_and_the_best_of_a_row_is_marked(tmp_path):
    runs = [make_report("first", 0), make_report("second <b>", 1, better=0.8), empty_report()]
    runs[1]["config"]["model"]["rvq"]["levels"] = 4
    script = """out.glance = rows("#glance"); out.configs = rows("#configs");
    out.signs = rows("#signs"); out.judge = rows("#judge");
    out.lines = $$(".line").length; out.players = $$("canvas").length;"""
    found = browse(render_compare(runs), tmp_path, script)
    assert found["problems"] == [] and found["players"] == 0 and found["lines"] == 6
    error = next(row for row in found["glance"] if row[0].startswith("error, shoulder"))
    assert [cell.startswith("★") for cell in error] == [False, False, True, False] and error[3] == "–"
    assert ["model.rvq.levels", "3", "4", "3"] in found["configs"] and not any(
        row[0] == "model.arch" for row in found["configs"]
    )
    assert found["judge"][2] == ["tokens, val", "17.4 %", "17.4 %", "–"]
    assert found["signs"][:2] == [[hand, "0.0940", "★ 0.0752", "–"] for hand in ("left hand", "right hand")]
    assert "B second <b>" in found["text"]
