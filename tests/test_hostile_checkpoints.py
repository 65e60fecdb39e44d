"""Checkpoints from anybody: flipped bits, archives and pickles made to hurt, configs that ask for the moon, states of
another kind. Each is refused in a line, before it costs memory; none is loaded wrongly in silence."""

import copy
import io
import pickle
import random
import resource
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from data_sets import signer_root
from helpers import begin_loop, run_steps, tiny_options
from signstream.errors import UserError
from signstream.inference.tokenizer import Tokenizer
from signstream.io.sealed import Sealer
from signstream.training import checkpoint, seed
from signstream.training.bounds import bounded
from signstream.training.loop import Loop
from signstream.training.run import go_on

MB = 1 << 20
REBUILD = torch.zeros(1).__reduce_ex__(2)[0]  # what a pickle names for a tensor


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    root = signer_root(tmp_path_factory.mktemp("signer"), 24, {"train": (0, 14), "val": (14, 20)})
    loop = begin_loop(tiny_options(root, "train.epochs=40"))
    run_steps(loop, 5)
    loop.validate(health=False)
    return loop


@pytest.fixture(scope="module")
def whole(loop, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "last.pt"
    checkpoint.save({**loop.state_dict(), "generators": [seed.generator_states()]}, path)
    return path


@pytest.fixture
def state(whole) -> dict:
    return checkpoint.load(whole)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        checkpoint.load(path)
    line = str(caught.value)
    assert "\n" not in line and "weights_only" not in line and "trust" not in line and "inline_container" not in line
    return line


# -- the file


@pytest.mark.parametrize("flips", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_no_flipped_bit_is_loaded(whole, tmp_path, flips):
    """Anywhere, a third of them in the archive's list of members and behind it."""
    rng, data, path = random.Random(flips), bytearray(whole.read_bytes()), tmp_path / "last.pt"
    listed = data.index(b"PK\1\2")
    for number in range(flips):
        at, bit = rng.randrange(listed if number % 3 == 0 else 0, len(data)), 1 << rng.randrange(8)
        data[at] ^= bit
        path.write_bytes(data)
        data[at] ^= bit
        assert "is no whole checkpoint" in refused(path), f"bit {bit} of byte {at}"
    path.write_bytes(data)
    checkpoint.load(path)


def test_a_checkpoint_without_its_digest_is_one_of_yesterday_or_none(whole, tmp_path):
    """Those of format 1 have none; what their archive says of its members must be what torch writes."""
    path = tmp_path / "last.pt"
    old = {"format": 1, "step": 3, "model": OrderedDict(bias=torch.arange(4.0))}
    torch.save(old, path)
    assert torch.equal(checkpoint.load(path)["model"]["bias"], torch.arange(4.0))
    data = bytearray(path.read_bytes())
    for member in ("data.pkl", "data/0"):
        entry = data.rindex(b"PK\1\2", 0, data.rindex(member.encode()))
        flagged = data.copy()
        flagged[entry + 38] |= 0x10  # a folder: torch would give memory that nobody wrote
        path.write_bytes(flagged)
        assert "marked as no file" in refused(path)
    data = whole.read_bytes()
    path.write_bytes(data[:-82][:-2] + b"\0\0")
    assert "does not end with the digest" in refused(path)


def write_archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED, seal: bool = True) -> None:
    """An archive as torch writes it, but for what is wrong with it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
        for info in archive.infolist():
            info.external_attr = 0
    with path.open("wb") as file:
        if not seal:
            file.write(buffer.getvalue())
            return
        sealer = Sealer(file)
        sealer.write(buffer.getvalue())
        sealer.finish()


class Stored(tuple):
    """What a pickle says of a storage: name of the member, count of numbers."""


class Claimed:
    """A tensor of whatever the pickle claims."""

    def __init__(self, shape: tuple, stride: tuple, stored: tuple = ("0", 4), offset: int = 0) -> None:
        self.arguments = (Stored(stored), offset, shape, stride, False, OrderedDict())

    def __reduce__(self) -> Any:
        return REBUILD, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return ("storage", torch.FloatStorage, value[0], "cpu", value[1]) if isinstance(value, Stored) else None


def pickled(value: Any, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, protocol).dump({"format": 2, "step": 1, "value": value})
    return buffer.getvalue()


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def laughs() -> list:
    value: list = [0]
    for _ in range(30):
        value = [value] * 10
    return value


def circle() -> list:
    value: list = []
    value.append(value)
    return value


PICKLES = {
    "a good one": (pickled(Claimed((2, 2), (2, 1))), None),
    "a shape beyond its bytes": (pickled(Claimed((10**10,), (1,))), "larger than its bytes"),
    "an offset beyond its bytes": (pickled(Claimed((4,), (1,), offset=1)), "larger than its bytes"),
    "one number for billions": (pickled(Claimed((10**10,), (0,))), "larger than its bytes"),
    "a storage beyond its member": (pickled(Claimed((4,), (1,), ("0", 5))), "16 bytes for 5 numbers"),
    "a storage that is not in it": (pickled(Claimed((4,), (1,), ("9", 4))), "bytes are not in it"),
    "sizes below zero": (pickled(Claimed((-4,), (1,))), "a tensor is none"),
    "a size that is none": (pickled(Claimed(("4",), (1,))), "a tensor is none"),
    "a function": (pickled(print), "asks for __builtin__.print"),
    "a large array of bytes": (pickled(bytearray(9)), "asks for __builtin__.bytearray"),
    "a later protocol": (pickled([1], 4), "which no plain value needs"),
    "a storage of its own": (pickled(Stored(("0", 4))), "holds a Storage"),
    "nesting": (pickled(nested(200)), "deep in one another"),
    "a billion laughs": (pickled(laughs()), "more than 200000 values"),
    "a circle": (pickled(circle()), "deep in one another"),
    "a memo of gigabytes": (b"\x80\x02}r\xff\xff\xff\x7f.", "more than 200000 values"),
    "millions of lists": (b"\x80\x02(" + b"]" * 5_000_000 + b"t.", "more than 200000 values"),
    "nothing": (b"", "is no checkpoint"),
    "noise": (b"\x80\x02" + bytes(range(256)), "is no checkpoint"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_made_to_hurt_is_refused_before_torch_reads_it(name, tmp_path, monkeypatch):
    content, reason = PICKLES[name]
    write_archive(tmp_path / "last.pt", {"data.pkl": content, "version": b"3\n", "data/0": bytes(16)})
    if reason is None:
        assert torch.equal(checkpoint.load(tmp_path / "last.pt")["value"], torch.zeros(2, 2))
        return
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it is read"))
    before, begun = peak(), time.monotonic()
    assert reason in refused(tmp_path / "last.pt")
    assert peak() - before < 100 * MB and time.monotonic() - begun < 10


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("seal", [True, False])
def test_an_archive_made_to_hurt_is_refused_before_anything_is_unpacked(tmp_path, monkeypatch, seal):
    path, good = tmp_path / "last.pt", {"data.pkl": PICKLES["a good one"][0], "data/0": bytes(16)}
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it is read"))
    write_archive(path, {**good, "data/0": bytes(300 * MB)}, zipfile.ZIP_DEFLATED, seal)
    before = peak()
    assert "is compressed" in refused(path)
    write_archive(path, good, seal=False)
    data = path.read_bytes()
    end = data.index(b"PK\5\6")
    listed = data.index(b"PK\1\2")
    entry = data[listed : data.index(b"PK\1\2", listed + 1)]
    spoilt = {
        "not each in one place": twice(data, entry),
        "list of members is too long": data[: end + 12] + (1 << 30).to_bytes(4, "little") + data[end + 16 :],
    }
    for reason, content in spoilt.items():
        path.write_bytes(content)
        assert reason in refused(path)
    assert peak() - before < 100 * MB


def twice(data: bytes, entry: bytes) -> bytes:
    """An archive that lists a member twice."""
    end = data.index(b"PK\5\6")
    size = int.from_bytes(data[end + 12 : end + 16], "little") + len(entry)
    count = (int.from_bytes(data[end + 8 : end + 10], "little") + 1).to_bytes(2, "little")
    return data[:end] + entry + data[end : end + 8] + count * 2 + size.to_bytes(4, "little") + data[end + 16 :]


# -- what is in it


def set_at(*path: Any, to: Any) -> Callable[[dict], None]:
    def change(state: dict) -> None:
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = to

    return change


def without(*path: Any) -> Callable[[dict], None]:
    def change(state: dict) -> None:
        for key in path[:-1]:
            state = state[key]
        del state[path[-1]]

    return change


def weights(value: float) -> Callable[[dict], None]:
    def change(state: dict) -> None:
        for tensor in state["model"].values():
            if tensor.is_floating_point():
                tensor.fill_(value)

    return change


LARGE = "a model far larger than its"
FOREIGN = {
    "no config": (without("config"), 'no "config"'),
    "no model": (without("model"), 'no "model"'),
    "a model of lists": (set_at("model", to={"a": [1]}), 'no "model"'),
    "no task": (without("task"), "no signing space and budget"),
    "no space": (without("task", "space"), "no signing space and budget"),
    "other parts": (set_at("task", "space", "parts", to=["face"]), "signing space is not of the config's parts"),
    "an odd space": (set_at("task", "space", "shift", to=torch.zeros(3)), "shift is no [5, 2] of numbers"),
    "a flat space": (set_at("task", "space", "scale", to=torch.zeros(5)), "scale is not above 0"),
    "an odd budget": (set_at("task", "budget", to=[1, 2]), "budget is odd"),
    "a budget without prices": (without("task", "budget", "prices"), "budget is odd"),
    "a falling budget": (set_at("task", "budget", "rates", to=torch.arange(256.0).flip(0)), "rates do not rise"),
    "a weight missing": (without("model", "encoder.frame"), "model.encoder.frame is in one and not in the other"),
    "a weight of another shape": (
        set_at("model", "encoder.frame", to=torch.zeros(3)),
        "model.encoder.frame is torch.float32 [3], torch.float32 [10, 32] is expected",
    ),
    "a weight of another kind": (set_at("model", "encoder.frame", to=torch.zeros(10, 32).long()), "torch.int64"),
    "all weights nan": (weights(float("nan")), "weights are not finite"),
    "a weight infinite": (set_at("model", "mean_0", to=torch.full((68, 2), torch.inf)), "weights are not finite"),
    "a wide model": (set_at("config", "model", "encoder_latent_dim", to=200000), LARGE),
    "a deep model": (set_at("config", "model", "encoder_layer", to=10**9), LARGE),
    "wide latents": (set_at("config", "model", "latent_dim", to=10**9), LARGE),
    "wide embeddings": (set_at("config", "model", "type_embed_dim", to=10**10), LARGE),
    "large codebooks": (set_at("config", "model", "rvq", "codebook_size", to=10**10), LARGE),
    "many levels": (set_at("config", "model", "rvq", "levels", to=10**9), LARGE),
    "long chunks": (set_at("config", "data", "chunk_len", to=10**9), LARGE),
    "a long window": (set_at("config", "data", "window", to=10**9), LARGE),
    "many joints": (set_at("config", "data", "num_joints", to=10**10), LARGE),
    "somewhat wide": (set_at("config", "model", "encoder_latent_dim", to=64), "is expected"),
}


def test_a_square_counts_as_one():
    """Of a network that asks for an identity far larger than its weights."""
    with pytest.raises(UserError, match="far larger"), bounded({"a": torch.zeros(5)}, 0, 0):
        torch.eye(300_000)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_checkpoint_is_refused_in_a_line_by_whoever_opens_it(loop, state, name):
    change, reason = FOREIGN[name]
    change(state)
    before, begun = peak(), time.monotonic()
    with pytest.raises(UserError) as caught:
        Tokenizer(state)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError) as caught:  # as `train --checkpoint` does, before data and model are opened
        type(loop.task).check_state(checkpoint.config_of(state), state)
    assert reason in str(caught.value)
    assert peak() - before < 300 * MB and time.monotonic() - begun < 10


OTHER_RUN = {
    "no optimiser": (without("optimizer"), 'no "optimizer"'),
    "an optimiser of another kind": (set_at("optimizer", to=[1]), "optimizer is another kind's"),
    "moments of another shape": (
        set_at("optimizer", "state", 0, "exp_avg", to=torch.zeros(1)),
        "optimizer.state[0].exp_avg is not of its parameter's shape",
    ),
    "SGD's moments": (set_at("optimizer", "state", 0, to={"momentum_buffer": None}), "optimizer.state[0].exp_avg"),
    "other groups": (set_at("optimizer", "param_groups", to=[]), "optimizer has other groups"),
    "generators of another kind": (set_at("generators", to=[{"philox": 1}]), "no checkpoint of such a run"),
    "a generator past its end": (set_at("generators", 0, "numpy", "position", to=10**9), "position in 624 numbers"),
    "no generators": (without("generators"), "no checkpoint of such a run"),
    "a score of text": (set_at("best", to="0.5"), "best is of type str"),
    "losses of text": (set_at("watch", "recent", to=["a"] * 60), "watch.recent is not of numbers"),
    "a loader of another kind": (set_at("loader", "epoch", to=1.5), "loader.epoch is of type float"),
    "an odd window": (set_at("window", to=[torch.zeros(1)]), "window has 1 tensors"),
}


@pytest.mark.parametrize("name", OTHER_RUN)
def test_a_run_does_not_go_on_from_another_kind_of_run(loop, state, name):
    change, reason = OTHER_RUN[name]
    change(state)
    with pytest.raises(UserError) as caught:
        go_on(Loop(loop.task, loop.config, loop.ranks, clips=loop.micro), state, "last.pt")
    assert reason in str(caught.value) and "\n" not in str(caught.value)


ODD = (None, -1, 0, 1.5, float("nan"), 10**30, "x", [], {}, {1: 2}, [1, 2], torch.zeros(3), torch.zeros(0), True, [[]])


def places(tree: Any, path: tuple = ()) -> list[tuple]:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path] * bool(path) + [place for key, value in inner for place in places(value, (*path, key))]


def copied(tree: Any) -> Any:
    """As deepcopy, which takes ten times as long for so many tensors."""
    if isinstance(tree, dict):
        return type(tree)((key, copied(value)) for key, value in tree.items())
    if isinstance(tree, list):
        return [copied(value) for value in tree]
    return tree.clone() if isinstance(tree, torch.Tensor) else copy.deepcopy(tree)


@pytest.mark.parametrize("count", [15, pytest.param(2000, marks=pytest.mark.slow)])
def test_whatever_is_wrong_in_a_state_nothing_but_a_line_is_said(loop, state, count):
    rng, known, right = random.Random(count), places(state), state
    sections = {key: [place for place in known if place[0] == key] for key in right}
    generators, said = seed.generator_states(), 0
    for _ in range(count):
        state = copied(right)
        place = rng.choice(sections[rng.choice(list(sections))])
        (without(*place) if rng.random() < 0.2 else set_at(*place, to=rng.choice(ODD)))(state)
        other = Loop(loop.task, loop.config, loop.ranks, clips=loop.micro)
        for work in (lambda state=state: Tokenizer(state), lambda state=state, other=other: train_on(other, state)):
            line = ""
            try:
                work()
            except UserError as error:
                line = str(error)
            said += bool(line)
            assert "\n" not in line, place
    seed.restore_generators(generators)
    assert said > count / 2


def train_on(loop: Loop, state: dict) -> None:
    go_on(loop, state, "last.pt")
    run_steps(loop, 1)
