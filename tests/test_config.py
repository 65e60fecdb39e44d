import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from signstream.config import Config, _keys, aliases, dump, from_dict, load_config, to_dict

ROOT = Path(__file__).parents[1]
SPECIFICATION = ROOT.parent / "shared" / "spec"

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
  rvq: {levels: 3, codebook_size: 2048, ema_decay: 0.99, commitment_beta: 0.25, usage_reg: 1e-3, temporal_loss_alpha: 0.05}
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
model: {latent_dim: 256, arch: "transformer", rvq: {levels: 3, codebook_size: 1024, ema_decay: 0.99, commitment_beta: 0.25, usage_reg: 1e-3,
  temporal_loss_alpha: 0.05}}
training: {epochs: 200, batch_size: 8, lr: 3e-4, wd: 0.01, amp: "bf16", save_every: 5, eval_every: 1}
"""
POSE_TOKENIZER = """
num_keypoints: 133        # Number of pose keypoints
keypoint_dim: 3          # Keypoint dimensions (x, y, confidence)
sequence_length: 64      # Input sequence length
hidden_dim: 256          # Hidden feature dimensions
num_quantizers: 4        # Number of RVQ layers
codebook_size: 1024      # Size of each codebook
batch_size: 32
num_epochs: 100
learning_rate: 1e-4
optimizer_type: "adamw"
scheduler_type: "warmup_cosine"
reconstruction_weight: 1.0
quantization_weight: 1.0
perceptual_weight: 0.1
temporal_weight: 0.1
"""


def load_text(tmp_path, text, *overrides):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def test_default_yaml_holds_every_key_with_the_default_and_a_comment():
    path = ROOT / "configs" / "default.yaml"
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))

    def names(table, prefix=""):
        for key, value in table.items():
            yield prefix + key
            if any(known.startswith(f"{prefix}{key}.") for known in _keys()):
                yield from names(value, f"{prefix}{key}.")

    assert set(names(tree)) == set(_keys())
    assert load_config(path) == Config()


def test_the_stage_1_example_loads_as_printed(tmp_path):
    config = load_text(tmp_path, STAGE_1)
    assert (config.train.lr, config.train.batch_size, config.train.amp, config.model.rvq.usage_reg) == (
        3e-4,
        16,
        "bf16",
        1e-3,
    )
    assert (config.data.split_file, config.model.rvq.codebook_size, config.save_path) == (
        "/path/to/split_file.json",
        2048,
        "/path/to/save_dir",
    )


def test_the_readme_example_loads_as_printed(tmp_path):
    config = load_text(tmp_path, README)
    assert (
        config.data.fps,
        config.train.save_every,
        config.data.body_parts["face"],
        config.data.normalize.bbox_range,
    ) == (25.0, 5, (24, 91), 8.0)


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


def test_the_pose_tokenizers_readme_loads_as_printed_in_any_order(tmp_path):
    config = load_text(tmp_path, POSE_TOKENIZER)
    model, train, data = config.model, config.train, config.data
    assert (data.num_joints, data.chunk_len, data.window) == (133, 8, 8)
    assert (model.encoder_latent_dim, model.rvq.levels, model.rvq.codebook_size) == (256, 4, 1024)
    assert (train.clips_per_step, train.epochs, train.lr, train.perceptual_weight) == (32, 100, 1e-4, 0.1)
    assert (model.rvq.commitment_beta, model.rvq.temporal_loss_alpha) == (0.25, 0.1)
    lines = POSE_TOKENIZER.strip().splitlines()
    assert load_text(tmp_path, "\n".join(reversed(lines))) == config
    assert load_config(None, [line.split("#")[0].replace(": ", "=").strip() for line in lines]) == config, (
        "and on the command line"
    )
    assert load_config(None, [line.split("#")[0].replace(": ", "=").strip() for line in reversed(lines)]) == config


@pytest.mark.skipif(not SPECIFICATION.exists(), reason="the specifications are not beside this checkout")
def test_the_three_blocks_of_the_pose_tokenizers_readme_are_the_ones_above(tmp_path):
    text = (SPECIFICATION / "pose_tokenizer_readme.md").read_text(encoding="utf-8")
    blocks = [block.split("```")[0] for block in text.split("```yaml")[1:]]
    assert len(blocks) == 3
    assert load_text(tmp_path, "".join(blocks)) == load_text(tmp_path, POSE_TOKENIZER)


def test_the_pose_tokenizers_prose_names_switches_too(tmp_path):
    config = load_text(
        tmp_path,
        "use_amp: false\nnum_workers: 3\npin_memory: true\nnum_layers: 5\nuse_wandb: true\ndata: {chunk_len: 12}",
    )
    assert (config.train.amp, config.data.workers, config.model.encoder_layer, config.train.log_wandb) == (
        "fp32",
        3,
        5,
        True,
    )
    assert config.data.chunk_len == 12
    assert load_text(tmp_path, "use_amp: true").train.amp == "bf16"
    assert load_text(tmp_path, "train: {log_wandb: my project}").train.log_wandb == "my project"


def test_stgcn_yaml_is_the_pose_tokenizers_and_takes_its_keys(tmp_path):
    config = load_config(ROOT / "configs" / "stgcn.yaml")
    assert (config.model.arch, config.data.chunk_len, config.data.window, config.model.rvq.levels) == ("stgcn", 8, 8, 4)
    above = load_text(tmp_path, f"base: {ROOT / 'configs' / 'stgcn.yaml'}\nsequence_length: 32\nhidden_dim: 48")
    assert (above.data.chunk_len, above.data.window, above.model.encoder_latent_dim, above.model.arch) == (
        8,
        4,
        48,
        "stgcn",
    )


@pytest.mark.parametrize(
    ("text", "chunk", "window"),
    [
        ("sequence_length: 60", 10, 6),
        ("sequence_length: 64\ndata: {chunk_len: 16}", 16, 4),
        ("data: {chunk_len: 9}\nsequence_length: 9", 9, 1),
        ("sequence_length: 33", 11, 3),
        ("data: {window: 3}", 10, 3),
        ("sequence_length: '64'", 8, 8),
    ],
)
def test_a_window_in_frames_is_whole_chunks(tmp_path, text, chunk, window):
    data = load_text(tmp_path, text).data
    assert (data.chunk_len, data.window) == (chunk, window)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("num_epochs: 3\ntrain: {epochs: 4}", "'num_epochs' and 'train.epochs', which are the same option"),
        ("model: {rvq: {levels: 3}}\nnum_quantizers: 4", "'num_quantizers' and 'model.rvq.levels'"),
        ("training: {clips_per_step: 3}\nbatch_size: 4", "'batch_size' and 'train.clips_per_step'"),
        ("data: {window: 2}\nsequence_length: 64", "'sequence_length' and 'data.window'"),
        ("data: 5\nsequence_length: 64", "a section with keys is expected"),
        ("keypoint_dim: 2", "keypoint_dim is 2: 3 is expected"),
        ("optimizer_type: sgd", "optimizer_type is 'sgd': 'adamw' is expected"),
        ("scheduler_type: step", "'warmup_cosine' is expected"),
        ("reconstruction_weight: 2.0", "the other weights are relative to it"),
        ("reconstruction_weight: true", "1 is expected"),
        ("pin_memory: false", "memory is pinned whenever"),
        ("pin_memory: 1", "True is expected"),
        ("use_amp: maybe", "use_amp is 'maybe': true"),
        ("quantization_weight: -1", "a number from 0"),
        ("quantization_weight: x", "a number from 0"),
        ("sequence_length: 6.5", "a whole number of frames"),
        ("sequence_length: true", "whole number of frames"),
        ("sequence_length: 0", "a whole number of frames"),
        ("sequence_length: .inf", "a whole number of frames"),
        (
            "sequence_length: 64\ndata: {chunk_len: 10}",
            "is 64, no multiple of data.chunk_len 10: a window is whole chunks; data.chunk_len=8 w",
        ),
        ("sequence_length: 67", "sequence_length is 67, no multiple of data.chunk_len 10"),
        ("sequence_length: 64\ndata: {chunk_len: 0}", "data.chunk_len is 0"),
        ("sequence_length: 64\ndata: {chunk_len: x}", "data.chunk_len is 'x'"),
        ("num_epoch: 5", "did you mean num_epochs?"),
        ("learning_rate: fast", "train.lr is 'fast': a number is expected"),
        ("hidden_dims: 5", "did you mean hidden_dim?"),
    ],
)
def test_a_key_of_the_pose_tokenizers_that_does_not_do_is_one_line(text, says, tmp_path):
    with pytest.raises(ValueError) as error:
        load_text(tmp_path, text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_default_yaml_names_every_other_name_beside_its_key():
    text = (ROOT / "configs" / "default.yaml").read_text(encoding="utf-8")
    listed = dict(line[1:].split()[:2] for line in text.split("# Keys that")[1].splitlines()[1:])
    assert listed.keys() == {*aliases.KEYS, *aliases.FIXED}
    assert {key: listed[key].rstrip(":,") for key in aliases.KEYS} == aliases.KEYS
    assert set(aliases.KEYS.values()) <= set(_keys())


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


def test_the_command_prints_the_resolved_config_and_one_line_for_a_mistake():
    command = [sys.executable, "-m", "signstream.config", "configs/default.yaml"]
    good = subprocess.run([*command, "data.chunk_len=8"], capture_output=True, text=True, cwd=ROOT)
    assert good.returncode == 0
    assert yaml.safe_load(good.stdout)["data"]["chunk_len"] == 8
    assert "data.lookahead: 6 frames" in good.stdout
    bad = subprocess.run([*command, "data.chunk_lenn=8"], capture_output=True, text=True, cwd=ROOT)
    assert (bad.returncode, bad.stderr) == (2, "error: unknown key data.chunk_lenn: did you mean data.chunk_len?\n")
