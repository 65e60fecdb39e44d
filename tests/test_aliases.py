"""Names that the specifications print and that older files have, read as ours."""

from pathlib import Path

import pytest

from signstream import cli
from signstream.config import Config, aliases, from_dict, load_config
from signstream.config.recognition import RecognitionConfig
from signstream.config.schema import keys
from signstream.errors import UserError
from signstream.training import run, train

ROOT = Path(__file__).parents[1]
SPECIFICATION = ROOT.parent / "shared" / "spec"

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


def test_the_pose_tokenizers_readme_loads_as_printed_in_any_order(tmp_path):
    config = load_text(tmp_path, POSE_TOKENIZER)
    model, train, data = config.model, config.train, config.data
    assert (data.num_joints, data.chunk_len, data.window) == (133, 8, 8)
    assert (model.encoder_latent_dim, model.rvq.levels, model.rvq.codebook_size) == (256, 4, 1024)
    assert (train.clips_per_step, train.epochs, train.lr, config.loss.perceptual_weight) == (32, 100, 1e-4, 0.1)
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
    listed, moved = text.split("# Keys that ")[1:]
    others = dict(line[1:].split()[:2] for line in listed.splitlines()[1:] if line.strip("# "))
    assert others.keys() == {*aliases.KEYS, *aliases.FIXED}
    assert {key: others[key].rstrip(":,") for key in aliases.KEYS} == aliases.KEYS
    assert {*aliases.KEYS.values(), *aliases.MOVED.values()} <= set(keys(Config))
    assert all(name in moved for name in aliases.MOVED)


def test_recognition_yaml_names_every_flag_of_its_specification_beside_its_key():
    text = (ROOT / "configs" / "recognition.yaml").read_text(encoding="utf-8")
    listed = text.split("# The recognition specification's flags ")[1]
    others = dict(line[1:].split() for line in listed.splitlines()[1:])
    assert others == aliases.RECOGNITION and set(others.values()) <= set(keys(RecognitionConfig))
    assert set(others) == {*cli.FLAGS, *cli.SWITCHES, "test_best"}


FLAGS = [
    *("--prefix", "set", "--meta_dir_path", "set/meta", "--gloss_dict_path", "g.npy", "--kp_path", "k.pkl"),
    *("--frame_interval", "2", "--use_heatmap", "--d_model", "256", "--depth", "6", "--lr", "1e-3"),
    *("--weight_decay", "0.1", "--output_dir", "out", "--log_dir", "logs", "--test_best"),
]


def test_the_recognition_specifications_flags_are_read_as_ours(monkeypatch):
    given = []
    monkeypatch.setattr(run, "train", lambda file, overrides, going_on: given.append(load_config(file, overrides)))
    train.main(["--config", str(ROOT / "configs" / "recognition.yaml"), *FLAGS, "train.epochs=3"])
    (config,) = given
    data = config.data
    assert (data.root, data.meta_dir, data.gloss_dict, data.keypoints) == ("set", "set/meta", "g.npy", "k.pkl")
    assert (data.frames.interval, data.frames.heat, config.model.width, config.model.depth) == (2, True, 256, 6)
    assert (config.train.lr, config.train.wd, config.train.test_best, config.train.epochs) == (1e-3, 0.1, True, 3)
    assert (config.save_path, config.train.log_dir) == ("out", "logs")


def test_they_are_no_names_of_another_tasks_options(tmp_path):
    with pytest.raises(UserError, match=r"unknown key lr: did you mean train\.lr"):
        load_config(None, ["lr=1"])
    with pytest.raises(UserError, match=r"'lr' and 'train\.lr', which are the same option"):
        load_text(tmp_path, "task: recognition\nlr: 1\ntrain: {lr: 2}")


OLDER = {
    "train": {
        "huber_delta": 0.2,
        "part_weights": {"body": 1.0},
        "perceptual_weight": 0.5,
        "losses": {"fingertips": 0.25},
        "lr": 0.5,
    },
    "model": {"rvq": {"rotation": False, "levels": 2}},
}


def test_what_an_older_checkpoint_holds_is_read_at_its_new_place():
    config = from_dict(OLDER)
    assert (config.loss.huber_delta, config.loss.part_weights) == (0.2, {"body": 1.0})
    assert (config.loss.perceptual_weight, config.loss.terms) == (0.5, {"fingertips": 0.25})
    assert (config.train.lr, config.model.rvq.levels, config.task) == (0.5, 2, "rvq")


def test_older_files_and_overrides_are_read_too_and_the_last_word_counts(tmp_path):
    (tmp_path / "older.yaml").write_text(
        "training: {huber_delta: 0.2, perceptual_weight: 1}\nmodel: {rvq: {rotation: false}}"
    )
    config = load_text(tmp_path, "base: older.yaml\nloss: {huber_delta: 0.3}", "train.part_weights={body: 2}")
    assert (config.loss.huber_delta, config.loss.perceptual_weight, config.loss.part_weights) == (
        0.3,
        1.0,
        {"body": 2.0},
    )
    assert load_config(None, ["loss.huber_delta=0.3", "training.huber_delta=0.4"]).loss.huber_delta == 0.4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "train: {huber_delta: 1}\nloss: {huber_delta: 2}",
            "'train.huber_delta' and 'loss.huber_delta', which are the same",
        ),
        ("perceptual_weight: 1\ntrain: {perceptual_weight: 2}", "'loss.perceptual_weight', which are the same option"),
        ("train: {huber_delta: 0}", "loss.huber_delta is 0: at least 1e-06 is expected"),
        ("train: {losses: 3}", "loss.terms is 3: a table of names to a number is expected"),
        ("train: {losses: {fingertips: 1}}", "loss.terms names 'fingertips'"),
        ("loss: 5\ntrain: {huber_delta: 1}", "loss is 5: a section with keys is expected"),
        ("train: {huber_delt: 1}", "did you mean loss.huber_delta?"),
        (
            "model: {rvq: {rotation: true}}",
            "model.rvq.rotation is true: the rotation trick is gone, since it was clearly worse",
        ),
        ("model: {rvq: {rotation: 1}}", "the rotation trick is gone"),
    ],
)
def test_what_does_not_do_under_an_older_name_is_one_line(text, says, tmp_path):
    with pytest.raises(UserError) as error:
        load_text(tmp_path, text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
