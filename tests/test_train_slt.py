"""train_slt.sh: what it starts, in a tree whose programs only say how they were called."""

from pathlib import Path

import pytest

from script_trees import EXTRAS, ROOT, calls, make_tree, run_script


@pytest.fixture
def tree(tmp_path) -> Path:
    return make_tree(tmp_path, "train_slt.sh")


def started(tree: Path, *arguments: str, **environment: str) -> list[str]:
    return calls(run_script(tree / "train_slt.sh", *arguments, **environment))


def test_without_arguments_it_makes_the_synthetic_signer_and_ends_with_the_page(tree):
    made, first, second, page = started(tree)
    assert made.startswith("-m signstream.data.synthetic --layout phoenix14t --out data/phoenix14t ")
    assert first == "train_multi --config configs/contrast_quickstart.yaml"
    from_first = "model.init_from=checkpoints/contrast_quickstart"
    assert second == f"train_multi --config configs/translation_quickstart.yaml {from_first}"
    assert page.startswith("-m signstream.inference.translate --checkpoint checkpoints/translation_quickstart ")
    (tree / "data" / "phoenix14t").mkdir(parents=True)
    assert started(tree) == [first, second, page]


def test_options_are_both_phases_and_a_data_set_is_found(tree):
    first, second = started(tree, "data.root=DIR", "model.text=big model")
    assert first == "train_multi --config configs/contrast.yaml data.root=DIR model.text=big model"
    from_first = "model.init_from=checkpoints/contrast"
    assert second == f"train_multi --config configs/translation.yaml {from_first} data.root=DIR model.text=big model"
    (tree / "PHOENIX-2014-T").mkdir()
    assert started(tree) == [first.split(" data.root")[0], second.split(" data.root")[0]]


def test_what_translation_needs_is_added_to_our_venv(tree):
    assert started(tree, "data.root=DIR", FAILS="import sacrebleu")[0] == EXTRAS


def test_quickstarts_have_one_encoder():
    from signstream.config import load_config

    phases = [load_config(ROOT / "configs" / f"{phase}_quickstart.yaml") for phase in ("contrast", "translation")]
    encoders = [{**vars(phase.model.encoder), "tokens": None} for phase in phases]
    assert encoders[0] == encoders[1] and phases[0].data == phases[1].data
