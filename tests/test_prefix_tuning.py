"""What of a prefix language model is learnt, and what a position of its prefix is: clips learnt by heart in each way;
weights that stay bit for bit and are kept by nobody; rows that begin at one place, a map or not; chunks as sums; a run
that goes on; checkpoints of somebody else."""

import copy
import sys
from functools import partial

import pytest
import torch

from helpers import assert_same, begin_loop, run_steps, slow_but
from prefix_runs import CLIPS, TEXTS, drawn_model, options, published_at, said_step_by_step
from processes import on_ranks
from sentences import said_in_one_line
from signstream.config import from_dict
from signstream.models.tuning import PROJECTIONS
from signstream.tasks.prefix_lm.restore import restore
from signstream.tasks.prefix_lm.task import PrefixTask
from signstream.tokens.vocabulary import SPECIALS
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop
from token_files import DIM, LEVELS, SIZE

for package in ("transformers", "tokenizers", "sacrebleu"):
    pytest.importorskip(package)

pytestmark = pytest.mark.usefixtures("one_thread")
LORA = ("model.tune=lora", "model.lora.rank=16")
WAYS = {
    "rows": ("model.tune=rows",),
    "lora": LORA,
    "mapped": ("model.signs=mapped",),
    "chunks": ("model.positions=chunks",),
    "mapped chunks, lora": (*LORA, "model.signs=mapped", "model.positions=chunks"),
}


@pytest.fixture(scope="module")
def four(tmp_path_factory) -> list[str]:
    return options(tmp_path_factory.mktemp("four"), list(TEXTS))


def begun(four: list[str], way: str, *more: str) -> Loop:
    if "lora" in way:
        pytest.importorskip("peft")
    return begin_loop([*four, *WAYS[way], *more])


def lm_of_run(loop: Loop) -> dict[str, torch.Tensor]:
    """The language model's own weights, by the names that they have without adapters."""
    named = loop.task.model.lm.named_parameters()
    return {name.replace(".base_layer", ""): p.detach().clone() for name, p in named if ".lora_" not in name}


# -- learning


@pytest.mark.parametrize("way", WAYS)
def test_clips_are_learnt_by_heart(four, way):
    """Word for word, as inference says them. Rows alone cannot make a drawn network speak: the loss falls. A head of
    32 numbers as it was drawn is never surer than 0.42 a unit."""
    loop = begun(four, way)
    before, first = lm_of_run(loop), loop.validate(health=True).numbers["sentence"]
    run_steps(loop, loop.total_steps)
    findings, setup = loop.validate(health=True), loop.task.setup
    same = [torch.equal(weight, before[name]) for name, weight in lm_of_run(loop).items()]
    assert all(same) if loop.task.model.frozen else not any(same)
    if way == "rows":
        assert findings.numbers["sentence"] < 0.5 * first
        return
    assert findings.numbers["sentence"] < (0.5 if "lora" in way else 0.1) and findings.score == pytest.approx(-100)
    setup.model.eval()
    assert setup.said([setup.sequences.rows(clip) for clip in loop.val_loader.clips]) == list(TEXTS)
    assert findings.numbers["none/sentence"] > findings.numbers["sentence"] + 1


# -- what is learnt


@pytest.mark.parametrize("way", ["rows", "lora"])
def test_what_stays_is_nobodys_to_move_and_in_no_checkpoint(four, way):
    loop = begun(four, way)
    model = loop.task.model
    moved = [p for group in loop.optimizer.param_groups for p in group["params"]]
    learnt = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in moved} == {id(p) for p in learnt} and len(moved) == len(learnt)
    run_steps(loop, 1)
    kept = set(loop.state_dict()["model"])
    assert kept == {name for name, p in model.named_parameters() if p.requires_grad} | {"signs.book"}
    adapters = {name for name in kept if name.startswith("lm.")}
    layers = len(model.lm.model.layers)
    assert len(adapters) == (2 * len(PROJECTIONS) * layers if way == "lora" else 0)
    assert all(".lora_" in name for name in adapters)
    assert (
        f"beside {sum(p.numel() for p in lm_of_run(loop).values()) / 1e6:.1f} M that stay" in loop.task.describe()[-1]
    )


def test_what_learns_nothing_drops_nothing(four):
    loop = begun(four, "rows", "model.tiny.dropout=0.5")
    batch = loop.task.setup.form.prompts.batch(CLIPS[:2], TEXTS[:2])
    model = loop.task.model.train()
    assert model.training and not model.lm.training
    assert torch.equal(model(batch.ids, batch.places), model(batch.ids, batch.places))
    whole = begin_loop([*four, "model.tiny.dropout=0.5"]).task.model.train()
    assert not torch.equal(whole(batch.ids, batch.places), whole(batch.ids, batch.places))


def test_adapters_begin_as_nothing_and_alike(four):
    """The network says at first what it said without them; whatever was drawn before, the seed draws them."""
    plain, task = begin_loop(four).task, begun(four, "lora").task
    batch = plain.setup.form.prompts.batch(CLIPS, TEXTS)
    assert torch.equal(plain.model(batch.ids, batch.places), task.model(batch.ids, batch.places))
    states = []
    for before in (5, 6):
        torch.manual_seed(before)
        states.append(dict(drawn_model(tune="lora").state_dict()))
    assert_same(states[0], states[1])


def test_without_peft_is_one_line(four, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    told = r"model.tune lora needs the package peft \(pip install peft\)"
    said_in_one_line(lambda: begin_loop([*four, *LORA]), told)


# -- rows


def test_a_map_begins_where_the_rows_begin_and_has_no_row_a_code(four):
    rows, mapped = begin_loop(four).task.model.signs, begun(four, "mapped").task.model.signs
    every = torch.arange(len(rows.book))
    torch.testing.assert_close(mapped(every), rows(every), atol=1e-6, rtol=1e-5)
    width = rows.rows.weight.shape[1]
    assert {name: tuple(p.shape) for name, p in mapped.named_parameters()} == {
        "rows.weight": (len(SPECIALS), width),
        "books.weight": (1 + sum(LEVELS), width),
        "map": (DIM, width),
    }


def test_one_code_moves_all_the_codes_of_a_map_and_no_special(four):
    """What is learnt of a code is learnt of those that lie near it."""
    loop = begun(four, "mapped")
    signs = loop.task.model.signs
    codes = torch.arange(len(SPECIALS), len(SPECIALS) + SIZE)
    signs(codes[:1]).sum().backward()
    assert signs.map.grad.any() and not signs.rows.weight.grad.any()
    assert not loop.task.model.signs.axes.requires_grad and "signs.axes" in loop.state_dict()["model"]


# -- positions


@pytest.fixture(scope="module")
def chunks():
    return drawn_model(positions="chunks", signs="mapped")


def test_a_chunk_is_a_position_in_training_and_in_inference(chunks):
    prompts, plain = chunks.prompts, drawn_model().prompts
    for codes, text in zip(CLIPS, TEXTS):
        train, asked = (prompts.cells(prompts.of(codes, said)) for said in (text, None))
        prefix, said = train[: len(asked)], train[len(asked) :]
        assert (
            prefix == asked
            and len(asked) == len(codes) + 3
            and [cell.ids for cell in said] == [[unit] for unit in prompts.units.ids(text)]
        )
        ids = [i for cell in asked for i in cell.ids]
        assert torch.equal(prompts.vocabulary.decode(ids[:-1]), codes), "no part's codes are lost in a sum"
        assert [len(cell.ids) for cell in asked] == [1, *[3] * len(codes), 1, 1]
        assert {cell.label for cell in asked} == {-100} and [cell.label for cell in said] == [c.ids[0] for c in said]
        flat = plain.cells(plain.of(codes, text))
        assert all(len(cell.ids) == 1 for cell in flat) and [c.label for c in flat if c.label >= 0] == [
            c.label for c in said
        ]


def test_a_position_is_the_sum_of_its_ids_at_the_spread_of_one(chunks):
    batch = chunks.prompts.batch(CLIPS[:1], TEXTS[:1])
    seen = chunks.embedded(batch.ids)[0]
    cells = chunks.prompts.cells(chunks.prompts.of(CLIPS[0], TEXTS[0]))
    for position, cell in zip(seen, cells, strict=True):
        alone = chunks.embedded(torch.tensor([cell.ids]))[0]
        torch.testing.assert_close(position, alone.sum(0) / len(cell.ids) ** 0.5)


@pytest.mark.parametrize("how", [{"positions": "chunks", "signs": "mapped"}, {"tune": "lora"}])
def test_a_clip_alone_is_the_clip_in_a_batch_and_speaks_as_the_whole_prompt_does(how):
    if "tune" in how:
        pytest.importorskip("peft")
    model = drawn_model(**how)
    batch = model.prompts.batch(CLIPS, TEXTS)
    singly = [model.prompts.batch([codes], [text]) for codes, text in zip(CLIPS, TEXTS)]
    logits = torch.cat([model(one.ids, one.places) for one in singly])
    torch.testing.assert_close(model(batch.ids, batch.places), logits, atol=1e-5, rtol=1e-5)
    assert batch.targets.tolist() == [unit for text in TEXTS for unit in model.prompts.units.ids(text)]
    asked = model.prompts.batch(CLIPS)
    said = model.generate(asked.ids, asked.lengths, most=12)
    assert said == [said_step_by_step(model, codes, 12) for codes in CLIPS]
    assert len({tuple(row) for row in said}) == 4, "the clips say different things"
    assert model.prompts.batch([], []).ids.shape[:2] == (0, 0), "of no clip"


def test_chunks_as_sums_leave_more_room(four):
    """Of a model in whose positions not all of the clips fit one id after another."""
    small = "model.tiny.positions=85"
    assert begin_loop([*four, small]).task.setup.sequences.skipped
    assert not begun(four, "chunks", small).task.setup.sequences.skipped
    said_in_one_line(lambda: begun(four, "chunks", "model.tiny.positions=60"), "no chunk of 3 codes has room")


# -- checkpoints


def trained(given: list[str], ranks: Ranks) -> dict[str, torch.Tensor]:
    loop = begin_loop(given, ranks)
    loop.optimizer.param_groups[0]["eps"] = 1e-5
    run_steps(loop, 3)
    return dict(loop.task.model.state_dict())


@pytest.mark.parametrize("way", slow_but(("rows", "mapped chunks, lora"), "rows"))
def test_two_ranks_are_one_process(four, tmp_path, way):
    if "lora" in way:
        pytest.importorskip("peft")
    work = partial(trained, [*four, *WAYS[way], "train.scale_with_world=false"])
    (alone,), (one, other) = on_ranks(1, work, tmp_path), on_ranks(2, work, tmp_path)
    assert_same(one, other)
    for name, weight in alone.items():
        torch.testing.assert_close(one[name], weight, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("way", ["rows", "lora"])
def test_a_published_model_that_stays_is_kept_by_nobody_and_known_again(four, tmp_path, way):
    model = drawn_model()
    folder = published_at(tmp_path, model)
    loop = begun(four, way, f"model.lm={folder}")
    run_steps(loop, 1)
    state = loop.state_dict()
    assert sum(weight.numel() for name, weight in state["model"].items() if ".lora_" not in name) < 5000
    restored = restore(loop.config, state).model.eval()
    batch = loop.task.setup.form.prompts.batch(CLIPS, TEXTS)
    assert torch.equal(restored(batch.ids, batch.places), loop.task.model.eval()(batch.ids, batch.places))
    model.lm.model.norm.weight.data += 0.1
    published_at(tmp_path, model)
    told = f"the weights of '{folder}' that stay are not those of the training"
    said_in_one_line(lambda: restore(loop.config, state), told)


@pytest.mark.parametrize("way", WAYS)
def test_a_run_goes_on_bit_for_bit_and_is_restored(four, way):
    more = ("model.tiny.dropout=0.1", "model.lora.dropout=0.1", "data.augment.time_warp=true")
    straight = begun(four, way, *more)
    run_steps(straight, 2)
    state = copy.deepcopy(straight.state_dict())
    run_steps(straight, 2)
    stopped = begun(four, way, *more)
    stopped.load_state_dict(copy.deepcopy(state))
    run_steps(stopped, 2)
    assert_same(stopped.state_dict(), straight.state_dict())
    end = straight.state_dict()
    restored = restore(from_dict(end["config"]), end).model.eval()
    model, setup = straight.task.model.eval(), straight.task.setup
    batch = setup.form.prompts.batch(CLIPS, TEXTS)
    assert torch.equal(restored(batch.ids, batch.places), model(batch.ids, batch.places))


def refused(four: list[str], way: str, told: str, *, task: dict | None = None, **changed) -> None:
    """Of a checkpoint of such a run in which this is otherwise."""
    loop = begun(four, way)
    state = loop.state_dict()
    model = {**state["model"], **changed.pop("weights", {})}
    odd = {**state, "task": {**state["task"], **(task or {})}, "model": model}
    config = begin_loop([*four, *changed["options"]]).config if changed else loop.config
    said_in_one_line(lambda: PrefixTask.check_state(config, odd), told)


def test_a_checkpoint_of_somebody_is_one_line(four):
    refused(four, "rows", "of 'the tiny language model' that stay are not those of the training", task={"frozen": "ab"})
    refused(four, "rows", "what of its language model was not learnt", task={"frozen": 3})
    refused(four, "rows", "is in one and not in the other", task={"frozen": ""}, options=())
    refused(four, "mapped", "no vectors of codes", weights={"signs.axes": torch.zeros(3)})
    refused(four, "mapped", "is in one and not in the other|is torch", options=())
    axes = {"signs.axes": torch.zeros(2, 5)}
    refused(four, "mapped", "signs.axes is|signs.map is", weights=axes)
    stray = {"lm.model.norm.weight": torch.zeros(32)}
    refused(four, "rows", "is in one and not in the other", weights=stray)
    refused(four, "rows", "not finite", weights={"signs.books.weight": torch.full((4, 32), torch.nan)})


def test_adapters_of_somebody_are_one_line(four):
    refused(four, "lora", "is in one and not in the other", options=WAYS["rows"])
    refused(four, "lora", "far larger than its", options=("model.tune=lora", "model.lora.rank=4096"))


def test_a_run_goes_on_only_on_the_weights_that_stayed(four):
    loop = begun(four, "rows")
    state = loop.task.state_dict()
    told = "'the tiny language model' that stay are not those of the training: .* here, 'ab' there"
    said_in_one_line(lambda: loop.task.load_state_dict({**state, "frozen": "ab"}), told)
