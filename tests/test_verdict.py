import dataclasses
import re
from pathlib import Path

import pytest

from signstream.config import Config
from signstream.inference.report import verdict as module
from signstream.inference.report.verdict import FLOORS, LIMITS, can_show, verdict


@pytest.fixture
def healthy():
    """As much of a report as its verdict is made of."""
    error, smooth = {"local": 0.02, "mean_pose": 0.1}, {"jump": 0.1, "jump_original": 0.1}
    level = {"used": 0.9, "perplexity": 200.0, "count": 1000}
    curve = {"rec": [0.1, 1.0, 0.5, 0.5], "commit": [0.0, 1.0, 1.0, 1.0]}  # the first is from before there were codes
    return {
        "run": {"clips": 20, "chunks": 1000, "split": "val"},
        "parts": ["face", "body"],
        "codebook_size": 512,
        "recon": {"face": dict(error), "body": dict(error), "weighted": dict(error)},
        "smooth": {"face": dict(smooth), "body": dict(smooth)},
        "codes": {"face": [dict(level)], "body": [dict(level), dict(level)]},
        "training": {"train": dict(curve), "val": dict(curve)},
        "meaning": {
            "clips": None,
            "segments": {
                "classes": 30,
                "chance": 0.05,
                "codes": [0.4, 0.6],
                "shuffled": [0.04, 0.05],
                "tokens": [0.5, 0.6],
                "keypoints": [0.4, 0.5],
                "latents": [0.6, 0.6],
            },
        },
        "steady": {"jitter of 1 px": {"face": [0.9, 0.1], "body": [None, None]}},
        "rate": {"held": 0.1, "hold_error": {"with": 0.05, "without": 0.05}},
    }


@pytest.mark.parametrize(
    ("wrong", "grade", "advice"),
    [
        ((10.0, 17.9, 90.0), "good", None),
        ((10.0, 18.1, 90.0), "warn", "export.codes_per_chunk"),
        ((10.0, 60.0, 90.0), "warn", "export.codes_per_chunk"),
        ((10.0, 80.9, 90.0), "warn", "export.codes_per_chunk"),
        ((10.0, 81.1, 90.0), "bad", "export.codes_per_chunk"),
        ((85.0, 86.0, 90.0), "warn", "so this says nothing"),  # what reads nothing finds no difference
        ((10.0, None, 90.0), None, None),
    ],
)
def test_what_the_judge_read_is_a_check_of_its_own(healthy, wrong, grade, advice):
    names = ("keypoints", "tokens", "tokens of other clips")
    healthy["judge"] = {"rows": {name: {"wer": {"val": rate, "test": 0.0}} for name, rate in zip(names, wrong)}}
    found = [line for line in verdict(healthy) if "by chance; one seed" in line["text"] and "of val" in line["text"]]
    assert [line["grade"] for line in found] == ([grade] if grade else [])
    assert all(advice in line["advice"] if advice else not line["advice"] for line in found)
    _, *leading, probe = verdict(healthy)[: 2 + len(found)]
    assert leading == found and "a linear probe" in probe["text"]


def test_a_healthy_report_is_called_healthy(healthy):
    lines = verdict(healthy)
    assert lines[0] == {"grade": "good", "text": "Healthy: all 8 checks passed.", "advice": ""}
    assert len(lines) == 9 and all(line["grade"] == "good" and not line["advice"] for line in lines)


@pytest.mark.parametrize(
    ("path", "value", "grade", "text", "advice"),
    [
        ("codes/body/1/used", 0.2, "bad", "body, level 2", "model.rvq.usage_reg"),
        ("codes/body/1/perplexity", 40.0, "bad", "body, level 2", "model.rvq.usage_reg"),
        ("codes/body/1/perplexity", 1.0, "bad", "dead: body, level 2", "model.rvq.revive_below"),
        ("codes/face/0/count", 0, "warn", "anything of face", "data.min_score"),
        ("recon/weighted/local", 0.05, "warn", "50% of the mean pose's", "train.epochs"),
        ("recon/weighted/local", 0.09, "bad", "90% of the mean pose's", "train.epochs"),
        ("recon/body/local", 0.07, "warn", "body: its error is 70%", "loss.part_weights for body"),
        ("smooth/body/jump", 0.15, "warn", "body jumps 1.5 times", "model.rvq.levels"),
        ("training/val/rec", [0.1, 0.4, 0.3, 0.5], "warn", "1.67 times its own least", "more clips"),
        ("training/val/rec", [0.1, 1.0, 1.2, 1.2], "warn", "1.80 times the training loss", "data.augment.affine"),
        ("meaning/segments/tokens", [0.06], "bad", "30 glosses apart with 6% from tokens", "loss.part_weights"),
        ("meaning/segments/shuffled", [0.38], "warn", "30 glosses apart with 55%", "loss.part_weights"),
        ("meaning/segments/shuffled", [0.5], "warn", "30 glosses apart with 55%", "so this says nothing"),
        ("steady/jitter of 1 px/face", [0.3, 0.1], "warn", "30% of the first-level codes", "data.smooth"),
        ("rate/hold_error/with", 0.06, "warn", "adds 20.0% to the error", "export.rle_threshold"),
    ],
)
def test_each_check_can_fail(healthy, path, value, grade, text, advice):
    *way, last = path.split("/")
    place = healthy
    for key in way:
        place = place[int(key) if isinstance(place, list) else key]
    place[int(last) if isinstance(place, list) else last] = value
    head, cost, *rest = verdict(healthy)
    assert "a linear probe" in cost["text"].lower()  # whatever its grade
    worst, *others = [cost, *rest] if path.startswith("meaning") else [rest[0], cost, *rest[1:]]
    assert head["grade"] == worst["grade"] == grade and text in worst["text"] and advice in worst["advice"]
    assert all(line["grade"] == "good" for line in others)


@pytest.mark.parametrize(
    ("tokens", "chance", "grade", "share"),
    [
        (0.546, 0.05, "good", "90%"),  # of 0.55 that latents tell beyond chance
        (0.544, 0.05, "warn", "90%"),
        (0.2, 0.05, "warn", "27%"),  # little is kept, and yet more than chance knows
        (0.076, 0.05, "warn", "5%"),
        (0.074, 0.05, "bad", "4%"),
        (0.02, 0.05, "bad", "0%"),
        (0.62, 0.05, "good", "100%"),
        (0.47, 0.35, "bad", "48%"),
        (0.48, 0.35, "warn", "52%"),  # of few glosses chance tells much: half of the rest is something
        (0.59, 0.395, "warn", "95%"),  # not 1.5 times chance
        (0.49, 0.395, "bad", "46%"),
    ],
)
def test_what_tokens_cost_is_judged_against_the_better_of_keypoints_and_latents(healthy, tokens, chance, grade, share):
    segments = healthy["meaning"]["segments"]
    segments |= {"tokens": [tokens], "chance": chance}
    told = verdict(healthy)[1]
    assert told["grade"] == grade and told["text"].startswith(f"Tokens keep {share} of what latents tell: a linear")
    assert bool(told["advice"]) is (grade != "good")
    segments["keypoints"], segments["latents"] = segments["latents"], segments["keypoints"]
    assert verdict(healthy)[1]["text"].startswith(f"Tokens keep {share} of what keypoints tell")
    healthy["meaning"] = {"clips": segments, "segments": None}
    assert verdict(healthy)[1]["grade"] == grade


def test_a_report_from_before_the_probe_read_keypoints_says_nothing_of_cost(healthy):
    for name in ("tokens", "keypoints"):
        del healthy["meaning"]["segments"][name]
    assert verdict(healthy)[0]["text"] == "Healthy: all 7 checks passed."


def test_a_part_is_named_as_people_say_it_and_the_key_as_it_is_written(healthy):
    for section in ("recon", "smooth", "codes"):
        healthy[section]["full_body"] = healthy[section].pop("body")
    healthy["parts"] = ["face", "full_body"]
    (
        healthy["recon"]["full_body"]["local"],
        healthy["smooth"]["full_body"]["jump"],
        healthy["codes"]["full_body"][1]["used"],
    ) = 0.07, 0.15, 0.2
    bad, *warned = [line for line in verdict(healthy)[1:] if line["grade"] != "good"]
    assert (
        "full body, level 2" in bad["text"] and len(warned) == 2 and all("full body" in line["text"] for line in warned)
    )
    assert any("loss.part_weights for full_body" in line["advice"] for line in warned)


def test_what_was_not_measured_is_not_judged(healthy):
    healthy |= {"training": None, "meaning": None}
    healthy["rate"]["hold_error"]["with"] = healthy["recon"]["weighted"]["local"] = healthy["recon"]["body"][
        "local"
    ] = None
    assert verdict(healthy)[0]["text"] == "Healthy: all 4 checks passed."
    healthy["run"]["clips"] = 0
    assert [line["grade"] for line in verdict(healthy)] == ["bad"]


def test_a_codebook_is_judged_by_what_so_few_chunks_can_show(healthy):
    assert (
        can_show(512, 1e9) == pytest.approx(512)
        and can_show(512, 1) == pytest.approx(1)
        and 260 < can_show(512, 400) < 300
    )
    healthy["codes"]["body"][1] = {"used": 35 / 512, "perplexity": 32.0, "count": 40}
    assert verdict(healthy)[0]["grade"] == "good"


def test_advice_names_keys_that_there_are():
    keys = set(
        re.findall(
            r"\b((?:data|model|loss|train|export)(?:\.[a-z_]+)+)", Path(module.__file__).read_text(encoding="utf-8")
        )
    )
    assert len(keys) > 8
    for key in keys:
        place = Config()
        for name in key.split("."):
            assert name in {field.name for field in dataclasses.fields(place)}, key
            place = getattr(place, name)
    for limit in (*LIMITS, *FLOORS):
        assert f'"{limit}"' in Path(module.__file__).read_text(encoding="utf-8").split("GRADES =")[1], limit


def test_a_part_that_tells_is_not_judged_as_one_that_is_drawn(healthy):
    healthy["recon"]["body"]["local"], healthy["smooth"]["body"]["jump"] = 0.09, 0.4
    assert [line["grade"] for line in verdict(healthy)].count("good") < len(verdict(healthy))
    healthy["tells"] = "body"
    lines = verdict(healthy)
    assert all(line["grade"] == "good" for line in lines) and len(lines) == 9
    assert not any("body" in line["text"] for line in lines if "mean pose" in line["text"] or "jumps" in line["text"])


def test_a_dead_code_that_tells_is_not_to_get_other_levels(healthy):
    healthy["tells"], healthy["codes"]["body"] = "body", [{"used": 0.002, "perplexity": 1.0, "count": 1000}]
    worst = verdict(healthy)[2]
    assert "dead: body, level 1" in worst["text"] and "train.epochs" in worst["advice"]
    assert "model.rvq.levels" not in worst["advice"]
    healthy["codes"]["face"][0]["perplexity"] = 1.0
    assert "model.rvq.levels" in verdict(healthy)[2]["advice"]


@pytest.mark.parametrize(("chunks", "grade"), [(4, "warn"), (99, "warn"), (100, "good")])
def test_of_a_handful_of_chunks_it_says_that_they_say_little(healthy, chunks, grade):
    healthy["run"]["chunks"] = chunks
    head, cost, worst, *_ = verdict(healthy)
    assert head["grade"] == grade and "a linear probe" in cost["text"]
    few = worst["text"].startswith(f"Only {chunks} chunks of 20 clips") and "'val'" in worst["advice"]
    assert few == (grade == "warn")
