"""A recogniser's report and its page: numbers that are those of validation and add up, and a page that opens without an
error, whatever stands in its names."""

import copy
import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch

from browsing import NARROW, NASTY, browse, browser, data_of, digest
from page_data import make_report
from phoenix_data import save_info, write_frames
from processes import on_ranks
from recognition_runs import ERRORS, LINES, VAL_WORDS, WRONG, Run, make_run, write_tokens
from signstream.data.phoenix2014 import FEATURES
from signstream.data.sequences import Padded
from signstream.errors import UserError
from signstream.inference import evaluate
from signstream.inference.recognition.clips import of_split
from signstream.inference.recognition.session import open_recogniser
from signstream.inference.report import command
from signstream.inference.report.files import write
from signstream.inference.report.page import render_compare, render_recognition
from signstream.inference.report.recognition.build import build
from signstream.inference.report.recognition.definitions import DEFINITIONS
from signstream.inference.report.recognition.measure import in_any_order, measure
from signstream.inference.report.recognition.sections import SECTIONS
from signstream.inference.report.recognition.verdict import RULES
from signstream.inference.report.verdict import verdict

ROOT = Path(__file__).parents[1]
RATE = 100 * sum(ERRORS) / VAL_WORDS


class Page(dict):
    """What the page's data hold: report, player, moments."""

    def render(self) -> str:
        return render_recognition(self["report"], self["player"], self["moments"])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return make_run(tmp_path_factory.mktemp("made"), "model.causal=true")


def evaluated(run: Run, out: Path, *options: str) -> dict:
    evaluate.main(["--checkpoint", str(run.checkpoint), "--split", "val", "--out", str(out), *options])
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(run, tmp_path_factory) -> Page:
    out = tmp_path_factory.mktemp("report")
    report = evaluated(run, out)
    page = (out / "index.html").read_text(encoding="utf-8")
    data = Page(json.loads(data_of(page)))
    assert data["report"] == report and data.render() == page
    return data


@pytest.fixture
def page(made) -> Page:
    return Page(copy.deepcopy(dict(made)))


# -- the numbers


def test_the_numbers_are_those_of_validation(run, made):
    errors = made["report"]["errors"]
    for name in ("wer", "substitutions", "deletions", "insertions"):
        assert errors[name] == pytest.approx(run.numbers[name], rel=1e-6)
    assert errors["wer"] == pytest.approx(RATE) == pytest.approx(errors["greedy"])
    assert list(errors["counts"].values()) == [*ERRORS, VAL_WORDS]
    assert errors["low"] <= errors["wer"] <= errors["high"] and errors["low"] < errors["high"]
    assert errors["whole"] == pytest.approx(8 / 11) and errors["unknown"] == 0


def test_groups_add_up_to_the_whole(made):
    report = made["report"]
    for rows in (report["per_signer"], report["by_length"]):
        for name, whole in report["errors"]["counts"].items():
            assert sum(row["counts"][name] for row in rows.values()) == whole
        assert sum(row["clips"] for row in rows.values()) == report["errors"]["clips"] == 11
        for row in rows.values():
            errors = sum(row["counts"][kind] for kind in ("substitutions", "deletions", "insertions"))
            assert row["wer"] == pytest.approx(100 * errors / row["counts"]["words"])
    assert set(report["per_signer"]) == {"Anna", "Bert"} and list(report["by_length"]) == ["0-4"]


def test_the_controls_know_nothing_of_the_clip(made):
    controls = made["report"]["controls"]
    assert controls["nothing"] == 100 and len(controls["shuffled"]) == 3 and min(controls["shuffled"]) > 2 * RATE
    assert controls["jumbled"] > 2 * RATE


def test_steps_in_any_order_are_a_clips_own():
    stream = torch.arange(24).view(2, 6, 2)
    padded = Padded({"codes": stream}, (6, 3))
    out = in_any_order(padded, [4, 5]).streams["codes"]
    assert torch.equal(out, in_any_order(padded, [4, 5]).streams["codes"]) and not torch.equal(out, stream)
    assert torch.equal(out[0].sort(0).values, stream[0]) and torch.equal(out[1, :3].sort(0).values, stream[1, :3])
    assert torch.equal(out[1, 3:], stream[1, 3:])  # padding stays behind


def test_the_pair_that_was_confused_is_found_and_looked_at(made):
    signed, recognised = WRONG["other"][0], LINES["clip0"][0]
    (pair,) = made["report"]["confusions"]
    assert (pair["reference"], pair["hypothesis"], pair["times"], pair["clips"]) == (signed, recognised, 1, ["other"])
    (moment,) = made["moments"]
    assert moment["taken"]["clip"] == "other"
    for gloss in ("reference", "hypothesis"):
        assert (LINES | WRONG)[moment[gloss]["clip"]].count({"reference": signed, "hypothesis": recognised}[gloss]) == 1
    assert all(0 <= at["first"] <= at["last"] < 40 and at["poses"] for at in moment.values())


def test_the_player_has_clips_from_the_worst_to_the_best(made):
    player = made["player"]
    clips = player["clips"]
    assert len(clips) == 10 and {clip["name"] for clip in clips[:3]} == set(WRONG)
    for clip in clips:
        assert clip["steps"] == 5 and player["frames_per_step"] == 8 and clip["frames"] == 40
        assert set(clip["rows"]) >= {gloss for gloss, *_ in clip["signs"]}
        assert [hypothesis for _, hypothesis in clip["pairs"] if hypothesis] == [sign[0] for sign in clip["signs"]]


def test_every_number_is_defined_and_the_docs_say_the_same(made):
    text = (ROOT / "docs" / "recognition.md").read_text(encoding="utf-8")
    for key, (unit, what, good) in DEFINITIONS.items():
        assert f"| `{key}` | {unit} | {what} | {good} |" in text
    report = made["report"]
    for section in ("errors", "controls", "efficiency"):
        defined = {key.split("/")[1] for key in DEFINITIONS if key.startswith(f"{section}/")}
        assert defined == set(report[section]) - {"clips", "counts"}
    assert set(SECTIONS) <= {key.split("/")[0] for key in DEFINITIONS}
    assert report["definitions"].keys() == DEFINITIONS.keys() and report["efficiency"]["ms_per_frame"] > 0


def on_each(path: Path, rank: int) -> dict:
    with open_recogniser(path) as (recogniser, config, ranks):
        assert (ranks.rank, ranks.world) == (rank, 2)
        clips = of_split(recogniser, config.data, "val", labelled=True, quiet=True)
        return build(clips, measure(clips, ranks), ranks, config=config, about={"split": "val"})


def test_ranks_do_not_matter(run, made, tmp_path):
    for report in on_ranks(2, partial(on_each, run.checkpoint), tmp_path, join=False):
        assert {name: report[name] for name in SECTIONS} == {name: made["report"][name] for name in SECTIONS}


# -- what is said of them


def test_the_verdict_follows_the_controls_and_the_balance(page):
    report = page["report"]

    def grades(**changed: float) -> dict[str, str]:
        report["errors"].update(changed)
        lines = verdict(report, RULES)
        return {line["text"].split()[0]: line["grade"] for line in lines}

    report["controls"]["shuffled"] = [90.0, 100.0, 110.0]
    assert grades(wer=20.0, deletions=6.0, insertions=5.0) == {"Healthy:": "good", "WER": "good", "Deletions": "good"}
    assert grades(wer=60.0)["WER"] == "warn" and grades(wer=97.0)["WER"] == "bad"
    assert grades(deletions=30.0)["It"] == "warn" and grades(deletions=1.0, insertions=30.0)["It"] == "warn"
    assert grades(unknown=5)["5"] == "warn"
    report["controls"]["shuffled"] = None
    assert grades(wer=20.0)["WER"] == "good"


# -- what cannot be measured


def test_one_clip_that_names_no_signer_is_measured(run, tmp_path):
    root = Path(run.options[0].removeprefix("data.root="))
    alone = tmp_path / "data"
    (alone / "frames_512x512").mkdir(parents=True)
    (alone / "frames_512x512" / "clip0.npy").write_bytes((root / "frames_512x512" / "clip0.npy").read_bytes())
    note = {"gloss": " ".join(LINES["clip0"]) + " FREMD", "num_frames": 40}
    (alone / "annotations.json").write_text(json.dumps({"clip0": note, "lost": note}))
    (alone / "split_files.json").write_text(json.dumps({"val": ["clip0", "lost"]}))
    report = evaluated(run, tmp_path / "out", f"data.root={alone}", f"data.cache={tmp_path}")
    assert report["controls"]["shuffled"] is None and report["errors"]["unknown"] == 1
    assert list(report["per_signer"]) == ["unknown"] and report["confusions"] == []
    notes = "\n".join(report["notes"])
    for words in ("data: 1 clips", "lost, missing file", "controls: the split has one clip", "names no signer"):
        assert words in notes


def test_a_split_that_has_nothing_is_one_line(run, tmp_path):
    with pytest.raises(
        UserError, match=r"the split 'test' has no clip that can be used: those that have are train \(8\)"
    ):
        evaluate.main(["--checkpoint", str(run.checkpoint), "--out", str(tmp_path)])


def test_runs_of_two_tasks_are_not_compared(made, tmp_path):
    for name, report in (("recogniser", made["report"]), ("tokenizer", make_report())):
        write(tmp_path / name, "", report)
    both = [str(tmp_path / name) for name in ("tokenizer", "recogniser")]
    with pytest.raises(UserError, match=r"runs of one task side by side: .*tokenizer is of task 'rvq', .*recogn"):
        evaluate.main(["--compare", *both, "--out", str(tmp_path / "page")])
    evaluate.main(["--compare", both[1], both[1], "--out", str(tmp_path / "page")])
    assert json.loads(data_of((tmp_path / "page" / "index.html").read_text()))["compare"] == [made["report"]] * 2


def test_a_recogniser_is_no_tokenizer_to_be_judged(run, tmp_path):
    with pytest.raises(UserError, match=r"--judge tells what a tokenizer's tokens cost, and .*pt is of task 'recog"):
        evaluate.main(["--checkpoint", str(run.checkpoint), "--judge", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_task_without_a_report_is_one_line(tmp_path, monkeypatch):
    run = make_run(tmp_path, steps=1)
    monkeypatch.setattr(command, "REPORTS", {"rvq": command.REPORTS["rvq"]})
    with pytest.raises(UserError, match="is of task 'recognition': what can be measured is rvq"):
        evaluate.main(["--checkpoint", str(run.checkpoint)])


# -- the page


def test_the_page_asks_nothing_of_a_network_and_runs_only_its_own_script(made):
    text = made.render()
    shell = text.replace(data_of(text), "")
    assert set(re.findall(r"\w+://[^\s\"'`)]*", shell)) == {"http://www.w3.org/2000/svg"}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    script = shell.split("<script>")[1].split("</script>")[0]
    assert f"script-src '{digest(script)}'" in policy and "default-src 'none'" in policy
    assert "{{" not in shell and "innerHTML" not in script and len(text) < 1e6


ACTS = """
out.painted = painted(); out.title = document.title;
const names = $$(".choose option").map((option) => option.textContent);
out.names = names;
choose(".choose select", names.findIndex((name) => name.startsWith("other")));
out.line = $$(".card .said").map((said) => said.textContent);
out.rows = $$(".chance .gloss").map((name) => name.textContent);
let before = picture();
press("ArrowRight"); out.arrow = frame(); out.moved = picture() !== before;
press("ArrowRight", { shiftKey: true }); out.leap = frame();
const word = $$("button.word")[1]; word.click(); out.word = [frame(), word.classList.contains("here")];
const cell = $$(".cells .cell").at(-1); cell.click(); out.cell = [frame(), cell.dataset.tip];
out.value = $$(".chance .value").map((value) => value.textContent);
press(" "); await wait(500); out.played = frame(); press(" ");
out.groups = rows("#errors"); out.moments = $$(".moment canvas").length;
out.silent = $$(".panel").filter((panel) => !panel.querySelector(".lead, .missing")).map((panel) => panel.innerText);
"""
ACTS += NARROW


@browser
def test_the_page_is_used_without_an_error_in_a_narrow_window(made, tmp_path):
    found = browse(made.render(), tmp_path, ACTS, width=500)
    assert found["problems"] == [] and found["beyond"] == [] and found["long"] == 0
    assert found["painted"] > 1000 and found["title"].startswith("default")
    assert all(text.startswith("Speed and memory") for text in found["silent"])
    signed, recognised = WRONG["other"][0], LINES["clip0"][0]
    assert found["line"] == [f"{signed} → {recognised}", *WRONG["other"][1:]]
    assert any(name.startswith("clip") and name.endswith("· right") for name in found["names"])
    assert set(found["rows"]) >= {signed, *LINES["clip0"]}
    assert found["moved"] and (found["arrow"], found["leap"]) == (1, 16) and found["moments"] == 3
    assert found["word"][1] and int(re.search(r"frames (\d+) to", found["cell"][1])[1]) == found["cell"][0] + 1
    assert (
        any(float(value.split()[0].lstrip(">")) > 50 for value in found["value"])
        and found["played"] != found["cell"][0]
    )
    groups = {row[0]: row[2:] for row in found["groups"]}
    assert [int(cell) for cell in groups["Anna"]][3] + [int(cell) for cell in groups["Bert"]][3] == VAL_WORDS


@browser
def test_names_appear_as_they_are_and_run_nothing(page, tmp_path):
    nasty = NASTY.replace("\ud800", "").replace("\u2028", "")
    report, player, moments = page["report"], page["player"], page["moments"]
    report["run"]["name"] = report["run"]["machine"] = report["run"]["source"] = nasty
    report["per_signer"] = {nasty: report["per_signer"]["Anna"]}
    report["confusions"] = [{**report["confusions"][0], "reference": nasty, "hypothesis": nasty}] * 2
    report["notes"], report["config"], report["definitions"]["errors/wer"]["what"] = [nasty], {nasty: nasty}, nasty
    moments[0]["taken"]["clip"], moments[0]["hypothesis"] = nasty, None
    page["moments"] = [moments[0], None]
    clip = player["clips"][0]
    player["clips"] = [clip]
    clip.update(name=nasty, signer=nasty, pairs=[[nasty, None], [None, nasty]], signs=[[nasty, 0, 3, 0.5]])
    clip.update(segments=[[0, 5, nasty]], rows=[nasty, *clip["rows"][1:]])
    found = browse(page.render(), tmp_path, 'out.images = $$("img").length; out.h1 = $("h1").textContent;')
    assert found["problems"] == [] and found["hacked"] is None and found["images"] == 0 and found["h1"] == nasty
    assert re.sub(r"\s+", " ", found["text"]).count(re.sub(r"\s+", " ", nasty).strip()) >= 8


@browser
def test_a_page_of_little_says_what_is_missing(page, tmp_path):
    report = page["report"]
    report["controls"]["shuffled"], report["confusions"], report["training"] = None, [], None
    report["per_signer"] = {}
    page.update(player=None, moments=[])
    found = browse(page.render(), tmp_path)
    assert found["problems"] == []
    for words in ("There are no clips to look at.", "No gloss was taken for another one.", "Not measured."):
        assert words in found["text"]


@browser
def test_recognisers_are_compared_side_by_side(page, tmp_path):
    first, second = page["report"], copy.deepcopy(page["report"])
    second["errors"]["wer"], second["config"]["model"]["width"] = RATE / 2, 7
    second["per_signer"] = {"Anna": first["per_signer"]["Anna"]}
    script = """for (const id of ["glance", "signers", "lengths", "configs"]) out[id] = rows(`#${id}`);"""
    found = browse(render_compare([first, second]), tmp_path, script + NARROW, width=500)
    assert found["problems"] == [] and found["beyond"] == []
    rates = {row[0]: row[1:] for row in found["glance"]}
    assert rates["word error rate"] == [f"{RATE:.2f} %", f"★ {RATE / 2:.2f} %"]
    assert rates["substituted"][0] == rates["substituted"][1] == f"{first['errors']['substitutions']:.2f} %"
    assert rates["words"] == [str(VAL_WORDS)] * 2 and rates["clips"] == ["11"] * 2
    signers = {row[0]: row[1:] for row in found["signers"]}
    assert list(signers) == list(first["per_signer"]) and signers["Bert"][1] == "–" != signers["Bert"][0]
    assert [row[0] for row in found["lengths"]] == ["0-4"]
    assert found["configs"] == [["model.width", str(first["config"]["model"]["width"]), "7"]]
    apart = "These are not of the same clips"
    assert apart not in found["text"]
    second["errors"]["clips"] = 12
    assert apart in browse(render_compare([first, second]), tmp_path)["text"]


# -- other sources


def test_a_page_of_codes_shows_the_skeletons_of_its_clips(tmp_path):
    run = make_run(tmp_path, "data.source=codes", write_tokens(tmp_path))
    report = evaluated(run, tmp_path / "out")
    assert report["errors"]["wer"] == pytest.approx(RATE) and report["efficiency"]["ms_per_frame"] is None
    data = json.loads(data_of((tmp_path / "out" / "index.html").read_text(encoding="utf-8")))
    assert data["player"]["frames_per_step"] == 5 and all(clip["original"] for clip in data["player"]["clips"])
    assert report["run"]["tokenizer"] == "one"


def test_a_page_of_frames_shows_its_pictures(tmp_path):
    root = tmp_path / "data"
    for split, count in (("train", 3), ("dev", 2)):
        entries = []
        for i in range(count):
            write_frames(root / FEATURES / split / f"clip{i}" / "1", 12, side=32, seed=i)
            about = {"folder": f"{split}/clip{i}/1/*.png", "signer": "S", "label": "SONNE REGEN", "num_frames": 12}
            entries.append({"fileid": f"clip{i}", **about})
        save_info(root, split, entries)
    small = ("model.depth=1", "model.frames.attention=[]", "model.frames.stem_blocks=0", "model.frames.state=4")
    sizes = ("data.frames.size=32", "data.frames.resize=32", "data.frames.interval=2")
    run = make_run(tmp_path, "data.layout=phoenix2014", "data.source=frames", *sizes, *small, steps=1)
    state = torch.load(run.checkpoint, weights_only=True)
    report = evaluated(run, tmp_path / "out")
    assert report["run"]["frames"] == 24 and state["step"] == report["run"]["step"]
    data = json.loads(data_of((tmp_path / "out" / "index.html").read_text(encoding="utf-8")))
    for clip in data["player"]["clips"]:
        assert len(clip["pictures"]) == 12 and all(
            text.startswith("data:image/jpeg;base64,") for text in clip["pictures"]
        )
        assert clip["steps"] == 6 and data["player"]["frames_per_step"] == 2
