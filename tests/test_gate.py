"""scripts/gate.py: a healthy report passes; one that is spoilt in any way does not."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

GATE = Path(__file__).parents[1] / "scripts" / "gate.py"
LEVEL = {"used": 0.6, "perplexity": 230.0}
GOOD = {
    "run": {"split": "val"},
    "verdict": [{"grade": "good", "text": "Healthy: all 8 checks passed."}, {"grade": "good", "text": "Alive."}],
    "recon": {"weighted": {"local": 0.042}},
    "rate": {"hold_error": {"with": 0.053}},
    "codes": {"face": [LEVEL, LEVEL], "left_hand": [LEVEL, LEVEL]},
    "meaning": {
        "segments": {
            "codes": [0.53, 0.51, 0.53],
            "tokens": [0.73, 0.71, 0.72],
            "latents": [0.76, 0.74, 0.75],
            "keypoints": [0.72, 0.71, 0.7],
            "chance": 0.05,
            "shuffled": [0.03, 0.03, 0.04],
        },
        "clips": {"codes": [0.66, 0.63, 0.66], "chance": 0.12, "shuffled": [0.08, 0.09, 0.10]},
    },
}
SPOILT = {
    "not healthy": (("verdict", 0, "grade"), "warn"),
    "verdict: Alive": (("verdict", 1, "grade"), "bad"),
    "the split test": (("run", "split"), "test"),
    "no verdict": (("verdict",), []),
    "error, weighted": (("recon", "weighted", "local"), 0.048),
    "error, weighted over parts, shoulder widths: nan": (("recon", "weighted", "local"), None),
    "the codes that are sent": (("rate", "hold_error", "with"), float("nan")),
    "codes used": (("codes", "left_hand", 1), {"used": 0.4, "perplexity": 230.0}),
    "perplexity": (("codes", "face", 0), {"used": 0.6, "perplexity": 90.0}),
    "codes used, worst level, share: nan": (("codes",), {}),
    "gloss segments": (("meaning", "segments", "codes"), [0.3, 0.3, 0.3]),
    "over chance and shuffled": (("meaning", "segments", "shuffled"), [0.2, 0.2, 0.2]),
    "what tokens keep of it, share: 0.7857": (("meaning", "segments", "tokens"), [0.6]),
    "what tokens keep of it, share: 0.7444": (("meaning", "segments", "keypoints"), [0.9, 1.0]),
    "what tokens keep of it, share: nan": (("meaning", "segments", "latents"), None),
    "glosses of clips": (("meaning", "clips", "codes"), [0.66]),
    "gloss segments told by the codes, share: nan": (("meaning",), None),
}


def gate(folder):
    return subprocess.run([sys.executable, str(GATE), str(folder)], capture_output=True, text=True)


def write(folder, run, report):
    (folder / run / "report").mkdir(parents=True)
    (folder / run / "config.yaml").write_text("")
    if report is not None:
        (folder / run / "report" / "report.json").write_text(report if isinstance(report, str) else json.dumps(report))


def test_a_good_report_passes_and_an_older_bad_one_does_not_matter(tmp_path):
    write(tmp_path, "2026-01-01_00-00-00", "{}")
    write(tmp_path, "2026-01-02_00-00-00", GOOD)
    done = gate(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "perplexity, worst level, codes: 230 (>= 195)" in done.stdout


@pytest.mark.parametrize("fault", SPOILT)
def test_a_spoilt_report_fails_and_says_why(fault, tmp_path):
    (*path, last), value = SPOILT[fault]
    report = place = copy.deepcopy(GOOD)
    for key in path:
        place = place[key]
    place[last] = value
    write(tmp_path, "2026-01-02_00-00-00", report)
    done = gate(tmp_path)
    assert done.returncode == 1
    assert fault in done.stderr, done.stderr


WARNED = [("warn", "Usable, but 1 of 8 checks needs a look."), ("warn", "Tokens keep 85% of what latents tell")]


@pytest.mark.parametrize(
    ("rows", "passes"),
    [
        (WARNED, True),  # the bound says how much it may be
        ([*WARNED, ("warn", "Other.")], False),
        ([("bad", "Not healthy"), ("bad", "Tokens keep 3% of what latents tell")], False),
        ([WARNED[0], ("warn", "Other.")], False),
    ],
)
def test_of_all_checks_only_what_tokens_cost_may_warn(rows, passes, tmp_path):
    report = {**GOOD, "verdict": [{"grade": grade, "text": text} for grade, text in rows]}
    write(tmp_path, "2026-01-02_00-00-00", report)
    assert (gate(tmp_path).returncode == 0) is passes


@pytest.mark.parametrize("report", [None, "{", "3", "{}"], ids=["none", "cut short", "a number", "empty"])
def test_the_newest_run_needs_a_report(report, tmp_path):
    write(tmp_path, "2026-01-01_00-00-00", GOOD)
    write(tmp_path, "2026-01-02_00-00-00", report)
    done = gate(tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_no_run_fails(tmp_path):
    assert "holds no run" in gate(tmp_path).stderr
