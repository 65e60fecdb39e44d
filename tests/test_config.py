"""What a user writes becomes a checked config of its task, and a mistake one line."""

import contextlib
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from signstream import registry
from signstream.config import Base, Config, Data, Train, check_names, dump, from_dict, load_config, option, to_dict
from signstream.config.prefix_lm import PrefixConfig
from signstream.config.recognition import RecognitionConfig
from signstream.config.schema import keys
from signstream.config.translation import ContrastConfig, TranslationConfig
from signstream.errors import UserError
from signstream.models.mamba import TemporalMixer
from signstream.models.rvq.trunk import TransformerBlock

ROOT = Path(__file__).parents[1]
SPECIFICATION = ROOT.parent / "shared" / "spec"
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))

STAGE_1 = """
experiment_name: "Baseline-Test001"
save_path: "/path/to/save_dir"
data: {root: "/path/to/CSL-Daily", split_file: "/path/to/split_file.json", fps: 30, chunk_len: 10,
  augment: {mirror: true, time_warp: true, dropout_prob: 0.05}}
model:
  encoder_layer: 2
  encoder_latent_dim: 256
  latent_dim: 256
  type_embed_dim: 16
  rvq: {levels: 3, codebook_size: 2048, ema_decay: 0.99, commitment_beta: 0.25, usage_reg: 1e-3,
    temporal_loss_alpha: 0.05}
train: {epochs: 200, batch_size: 16, lr: 3e-4, wd: 0.01, amp: "bf32", log_wandb: false, seed: 42}
export: {enable_rle: true, rle_threshold: 0.02}
"""
README = """
data:
  root: "./CSL-Daily"
  fps: 25
  chunk_len: 10
  normalize: {center_parts: true, bbox_range: 8}
  body_parts: {face: [24, 91], left_hand: [92, 112], right_hand: [113, 133], body: [1, 17], full_body: [1, 133]}
  augment: {mirror: true, time_warp: true, dropout_prob: 0.05}
model: {latent_dim: 256, arch: "transformer",
  rvq: {levels: 3, codebook_size: 1024, ema_decay: 0.99, commitment_beta: 0.25, usage_reg: 1e-3,
    temporal_loss_alpha: 0.05}}
training: {epochs: 200, batch_size: 8, lr: 3e-4, wd: 0.01, amp: "bf16", save_every: 5, eval_every: 1}
"""


@dataclasses.dataclass(frozen=True)
class Hops:
    height: float = option(0.5, low=0.1)
    wings: bool = False
    flap: int = option(3, low=1, idle={"wings": (False,)})

    def check(self):
        if self.height == 13:
            raise UserError("hops.height is 13: any other is expected")


@dataclasses.dataclass(frozen=True)
class HopConfig(Base):
    """The config of another task than ours."""

    data: Data = dataclasses.field(default_factory=Data)
    hops: Hops = dataclasses.field(default_factory=Hops)
    train: Train = dataclasses.field(default_factory=Train)


class HopTask:
    config = HopConfig


@pytest.fixture
def hopping(monkeypatch):
    monkeypatch.setitem(registry.TABLES["task"], "hop", HopTask)


def load_text(tmp_path, text, *overrides):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def refused(overrides, below=None):
    """The one line of an error."""
    with pytest.raises(UserError) as error:
        load_config(None, overrides, below)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("default.yaml", Config),
        ("recognition.yaml", RecognitionConfig),
        ("contrast.yaml", ContrastConfig),
        ("translation.yaml", TranslationConfig),
        ("prefix_lm.yaml", PrefixConfig),
    ],
)
def test_a_tasks_yaml_holds_every_key_with_the_default_and_a_comment(file, kind):
    path = ROOT / "configs" / file
    text = path.read_text(encoding="utf-8")
    tree = yaml.safe_load(text)

    def names(table, prefix=""):
        for key, value in table.items():
            yield prefix + key
            if any(known.startswith(f"{prefix}{key}.") for known in keys(kind)):
                yield from names(value, f"{prefix}{key}.")

    assert sorted(names(tree)) == sorted(keys(kind))
    assert load_config(path) == kind()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_of_ours_loads(name):
    config = load_config(ROOT / "configs" / name)
    assert config.experiment_name == name.removesuffix(".yaml")
    assert from_dict(to_dict(config)) == config


def test_the_stage_1_example_loads_as_printed(tmp_path):
    config = load_text(tmp_path, STAGE_1)
    train = config.train
    assert (train.lr, train.batch_size, train.amp, config.model.rvq.usage_reg) == (3e-4, 16, "bf16", 1e-3)
    assert (config.data.split_file, config.save_path) == ("/path/to/split_file.json", "/path/to/save_dir")
    assert config.model.rvq.codebook_size == 2048


def test_the_readme_example_loads_as_printed(tmp_path):
    config = load_text(tmp_path, README)
    assert (config.data.fps, config.train.save_every) == (25.0, 5)
    assert (config.data.body_parts["face"], config.data.normalize.bbox_range) == ((24, 91), 8.0)


@pytest.mark.skipif(not SPECIFICATION.exists(), reason="the specifications are not beside this checkout")
@pytest.mark.parametrize("name", ["signstream_stage1_spec.zh.md", "signstream_readme.md"])
def test_every_yaml_block_of_the_specifications_loads(name, tmp_path):
    blocks = [b.split("```")[0] for b in (SPECIFICATION / name).read_text(encoding="utf-8").split("```yaml")[1:]]
    assert blocks
    for block in blocks:
        load_text(tmp_path, block)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.chunk_lenn=8", "unknown key data.chunk_lenn: did you mean data.chunk_len?"),
        ("data.codebook_size=8", "did you mean model.rvq.codebook_size?"),
        ("modle.latent_dim=8", "did you mean model"),
        ("zzz=1", "configs/default.yaml lists every key"),
        ("data.chunk_len=ten", "data.chunk_len is 'ten': a whole number is expected"),
        ("data.chunk_len=1.5", "a whole number is expected"),
        ("data.chunk_len=true", "a whole number is expected"),
        ("data.chunk_len=0", "data.chunk_len is 0: at least 1 is expected"),
        ("data.smooth=1", "data.smooth is 1"),
        ("data.fps=.nan", "data.fps is nan: a number is expected"),
        ("data.fps=.inf", "a number is expected"),
        ("data.chunk_stride=11", "frames would be left out"),
        ("data.augment.mirror=1", "true or false is expected"),
        ("data.augment=5", "a section with keys is expected"),
        ("data.body_parts.face=[1]", "2 numbers in brackets"),
        ("data.min_score=2", "from 0 to 1"),
        (f"train.seed={1 << 64}", "from 0 to 1e+18"),
        ("train.amp=bf8", "'bf16' or 'fp16' or 'fp32' is expected"),
        ("train.batch_size=none", "a whole number or 'auto' is expected"),
        ("experiment_name=a/b", "names a folder"),
        ("data.chunk_len", "is no override"),
        ("data.root={", "is not YAML"),
        ("data.centers={body:x}", "data.centers is {'body': 'x'}"),
    ],
)
def test_a_wrong_option_is_one_line_that_says_what_is_expected(override, says):
    with pytest.raises(ValueError) as error:
        load_config(None, [override])
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_overrides_come_last_and_body_parts_are_replaced_whole(tmp_path):
    config = load_text(
        tmp_path, "data: {chunk_len: 8, body_parts: {body: [1, 17]}}", "data.chunk_len=12", "training.lr=1e-5"
    )
    assert config.data.chunk_len == 12
    assert config.train.lr == 1e-5
    assert config.data.body_parts == {"body": (1, 17)}


def test_a_file_holds_only_its_differences_to_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text("training: {epochs: 7, lr: 0.5}\ndata: {chunk_len: 8}")
    config = load_text(tmp_path, "base: base.yaml\ntrain: {lr: 0.25}")
    assert (config.train.epochs, config.train.lr, config.data.chunk_len) == (7, 0.25, 8)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("base: config.yaml", "leads back to itself"),
        ("base: nowhere.yaml", "cannot read the config"),
        ("base: [a]", "base is"),
        ("- 1", "holds list"),
        ("data: {fps: 1, fps: 2}", "'fps' is written twice"),
        ("train: {}\ntraining: {}", "the same section"),
        ("a: [", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("? [1]\n: 2", "not YAML"),
    ],
)
def test_a_file_that_is_no_config_is_one_line(text, says, tmp_path):
    with pytest.raises(ValueError) as error:
        load_text(tmp_path, text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_plain_values_lead_back_to_the_same_config(tmp_path):
    config = load_text(tmp_path, README, "data.unit_joints=[[1,2]]", "data.centers={face: 31}")
    assert from_dict(to_dict(config)) == config
    assert load_text(tmp_path, dump(config)) == config


def test_a_config_cannot_be_changed_after_it_was_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().data.chunk_len = 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["model.arch=stgcn", "model.pool=mean"], "model.pool is mean, but with model.arch stgcn nothing reads it"),
        (["model.arch=mlp", "model.pool=attention"], "leave it out (flatten), or change model.arch"),
        (["model.checkpointing=true"], "model.checkpointing is true, but with model.arch transformer"),
        (["model.arch=mlp", "model.checkpointing=true"], "leave it out (false), or change model.arch"),
        (["model.rvq.kind=fsq", "model.rvq.ema_decay=0.9"], "ema_decay is 0.9, but with model.rvq.kind fsq"),
        (["model.rvq.kind=fsq", "model.rvq.kmeans=0"], "kmeans is 0, but"),
        (["model.rvq.kind=fsq", "model.rvq.revive_below=0"], "revive_below is 0, but"),
        (["model.rvq.kind=fsq", "model.rvq.usage_reg=0.1"], "leave it out (0.001), or change model.rvq.kind"),
        (["model.rvq.levels=1", "model.rvq.level_dropout=0.5"], "level_dropout is 0.5, but with model.rvq.levels 1"),
        (["export.enable_rle=false", "export.rle_threshold=0.1"], "rle_threshold is 0.1, but with export.enable_rle f"),
        (["data.augment.time_warp=false", "data.augment.time_warp_range=0.1"], "but with data.augment.time_warp false"),
        (
            ["data.augment.mirror=false", "data.augment.calm=0.5"],
            "with data.augment.mirror false and data.augment.affine 0 nothing",
        ),
        (["data.layout=npz", "data.split_file=x.json"], "split_file is x.json, but with data.layout npz"),
        (["data.layout=npz", "data.check_num_frames=false"], "leave it out (true), or change data.layout"),
    ],
)
def test_an_option_that_its_neighbour_makes_meaningless_cannot_be_set(options, says):
    assert says in refused(options)
    assert load_config(None, options[:-1])


def test_what_a_neighbour_leaves_a_meaning_may_be_set(monkeypatch):
    monkeypatch.setitem(registry.TABLES["arch"], "of_a_user", dict)
    for options in (
        ["model.arch=of_a_user", "model.pool=mean", "model.checkpointing=true"],
        ["model.arch=stgcn", "model.checkpointing=true", "model.share_hands=false", "model.pool=flatten"],
        ["model.rvq.kind=fsq", "model.rvq.commitment_beta=0.5", "model.rvq.level_dropout=0"],
        ["data.augment.mirror=false", "data.augment.calm=0.5", "data.augment.affine=0.1"],
        ["model.rvq.levels={face: 1, body: 1}", "model.rvq.level_dropout=0.5"],
    ):
        assert load_config(None, options)


def test_what_a_checkpoint_has_is_not_set_by_whoever_reads_it():
    """An older one may hold idle options, and a switch turned off for once leaves what hangs on it as it was."""
    saved = from_dict({"model": {"rvq": {"kind": "fsq", "usage_reg": 0.1}}, "export": {"rle_threshold": 0.02}})
    config = load_config(None, ["export.enable_rle=false"], saved)
    assert (config.model.rvq.usage_reg, config.export.rle_threshold) == (0.1, 0.02)
    assert "model.rvq.revive_below is 0, but" in refused(["model.rvq.revive_below=0"], saved)


@pytest.mark.parametrize("width", [65, 66.5, 100, 200, 300])
def test_a_width_that_the_heads_cannot_share_is_one_line_that_says_which_they_can(width):
    line = refused([f"model.encoder_latent_dim={width}"])
    assert line.startswith(f"model.encoder_latent_dim is {width}: ")
    if width == 200:
        assert "a head for every 32 of it, so 6, which must share it evenly; 192 or 224 would do" in line
    assert width != int(width) or load_config(None, [f"model.encoder_latent_dim={width}", "model.arch=mlp"])


@pytest.mark.parametrize("causal", [True, False])
def test_the_groups_that_are_taken_are_those_that_mambas_heads_can_share(causal):
    for groups in (1, 2, 3, 4, 6, 8, 16):
        tree = {"width": 48, "head": 16, "groups": groups, "depth": 1, "causal": causal}
        try:
            TemporalMixer(48, head=16, groups=groups, causal=causal)
            fits = True
        except UserError:
            fits = False
        with contextlib.nullcontext() if fits else pytest.raises(UserError, match=r"model\.groups is .* would do"):
            from_dict({"task": "recognition", "model": tree})


def test_the_widths_that_are_taken_are_those_that_the_heads_can_share():
    for width in (*range(1, 132), 192, 200, 256, 300):
        fits = width % TransformerBlock(width).heads == 0
        with contextlib.nullcontext() if fits else pytest.raises(UserError, match="share it evenly"):
            from_dict({"model": {"encoder_latent_dim": width}})


def test_a_config_names_its_task_and_is_of_its_class(hopping, tmp_path):
    config = load_text(tmp_path, "task: hop\nhops: {height: 2}\nnum_epochs: 3", "hops.wings=true", "training.lr=0.5")
    assert type(config) is HopConfig
    assert (config.hops.height, config.hops.wings, config.train.epochs, config.train.lr) == (2.0, True, 3, 0.5)
    assert from_dict(to_dict(config)) == config == load_text(tmp_path, dump(config))
    above = load_config(None, ["hops.flap=4"], config)
    assert (above.task, above.hops.flap, above.hops.height) == ("hop", 4, 2.0)
    assert load_config(None, []).task == "rvq" and type(load_config(None, ["task=rvq"])) is Config


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["task=jump"], "task is 'jump': rvq, "),
        (["task=3"], "task is 3: text is expected"),
        (["task=hop", "hops.hight=2"], "unknown key hops.hight: did you mean hops.height?"),
        (["task=hop", "hops.height=0"], "hops.height is 0: at least 0.1 is expected"),
        (["task=hop", "hops.height=13"], "hops.height is 13: any other"),
        (["task=hop", "hops.flap=4"], "hops.flap is 4, but with hops.wings false"),
        (["task=hop", "zzz=1"], "unknown key zzz: task hop has task, experiment_name"),
        (["task=hop", "model.arch=mlp"], "unknown key model: task rvq has it, and this config's task is hop"),
        (["hops.height=2"], "unknown key hops: task hop has it, and this config's task is rvq"),
        (["task=hop", "num_quantizers=4"], "unknown key num_quantizers"),
        (["task=hop", "train.losses={}"], "unknown key train.losses"),
    ],
)
def test_a_mistake_in_another_task_is_one_line_too(hopping, options, says):
    assert says in refused(options)


def test_a_section_that_tasks_share_may_have_keys_of_its_own(hopping, monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Longer(Train):
        jumps: int = 3

    monkeypatch.setattr(
        HopTask,
        "config",
        dataclasses.make_dataclass(
            "LongerConfig",
            [("train", Longer, dataclasses.field(default_factory=Longer))],
            bases=(HopConfig,),
            frozen=True,
        ),
    )
    assert load_config(None, ["task=hop", "train.jumps=4", "train.patience=2"]).train == Longer(jumps=4, patience=2)
    assert refused(["train.jumps=4"]) == "unknown key train.jumps: task hop has it, and this config's task is rvq"


def test_a_program_for_one_task_says_so(hopping):
    with pytest.raises(UserError, match="the config is of task hop: this needs one of task rvq"):
        load_config(None, ["task=hop"], kind=Config)
    assert load_config(None, [], kind=Config) == Config()
    assert "task is 'hop' and the checkpoint's is 'rvq': begin a new run" in refused(["task=hop"], Config())


@pytest.mark.parametrize("config", [None, dict, 3])
def test_a_task_without_a_config_is_one_line(config, hopping, monkeypatch):
    monkeypatch.setattr(HopTask, "config", config)
    assert "the task 'hop' has no attribute `config`" in refused(["task=hop"])


def test_a_strangers_task_is_not_looked_for():
    with pytest.raises(UserError, match="task names 'evil', made with --import evil: give that"):
        from_dict({"task": "evil", "imports": ["evil"]})
    assert "evil" not in sys.modules


def test_names_are_checked_wherever_an_option_says_one(hopping):
    check_names(from_dict({"task": "hop"}))
    with pytest.raises(UserError, match=r"data\.layout is 'nowhere'"):
        check_names(from_dict({"task": "hop", "data": {"layout": "nowhere"}}))


def test_the_command_prints_the_resolved_config_and_one_line_for_a_mistake():
    command = [sys.executable, "-m", "signstream.config", "configs/default.yaml"]
    good = subprocess.run([*command, "data.chunk_len=8"], capture_output=True, text=True, cwd=ROOT)
    assert good.returncode == 0
    assert yaml.safe_load(good.stdout)["data"]["chunk_len"] == 8
    assert "data.lookahead: 6 frames" in good.stdout
    bad = subprocess.run([*command, "data.chunk_lenn=8"], capture_output=True, text=True, cwd=ROOT)
    assert (bad.returncode, bad.stderr) == (2, "error: unknown key data.chunk_lenn: did you mean data.chunk_len?\n")
