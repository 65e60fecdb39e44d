"""Pickles that may be anything: plain values and arrays come out, nothing is run, and what is asked for is bounded."""

import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data_sets import npy_bytes, npy_header
from helpers import ROOT
from signstream.errors import UserError
from signstream.io import pickle_machine, pickles
from signstream.io.pickle_machine import Array
from signstream.io.pickles import read_object_npy, read_pickle
from test_fuzz import mutate

TREE = {
    "prefix": "/nobody/has/this",
    0: {"fileid": "a", "label": "MORGEN ÜBER", "num_frames": 7, "none": None, "yes": True, "no": False},
    1: {"big": 2**40, "small": -70000, "real": 0.25, "list": [1, [2, "x"], []], "empty": {}},
}
# An array before its state, as protocol 3 has it.
MADE = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
ARRAYS = {
    "float32": np.arange(24, dtype=np.float32).reshape(2, 4, 3),
    "float64": np.arange(6.0).reshape(2, 3),
    "big-endian": np.arange(6, dtype=">f4"),
    "int16": np.arange(-4, 4, dtype=np.int16),
    "bool": np.array([True, False]),
    "Fortran order": np.asfortranarray(np.arange(30.0).reshape(5, 6)),
    "not contiguous": np.arange(30.0).reshape(5, 6)[::2, ::3],
    "empty": np.zeros((0, 121, 3), np.float32),
}


def dumped(value: object, protocol: int = 4) -> bytes:
    return pickle.dumps(value, protocol=protocol)


def read(path: Path, content: bytes):
    path.write_bytes(content)
    return read_pickle(path)


def refusal(path: Path, content: bytes) -> str:
    with pytest.raises(UserError) as error:
        read(path, content)
    line = str(error.value)
    assert line and "\n" not in line and len(line) < 200
    return line


# -- what comes out


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_values_come_out_as_they_are(tmp_path, protocol):
    assert read(tmp_path / "x", dumped(TREE, protocol)).value == TREE
    assert read(tmp_path / "x", dumped((1, ("a", 2.5)), protocol)).value == [1, ["a", 2.5]]
    numbers = {"n": np.int64(-3), "f": np.float32(0.5), "s": np.str_("Ü"), "b": np.bool_(True)}
    assert read(tmp_path / "x", dumped(numbers, protocol)).value == {"n": -3, "f": 0.5, "s": "Ü", "b": True}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_come_out_to_the_bit_and_stay_in_the_file_until_they_are_wanted(tmp_path, protocol):
    out = read(tmp_path / "x", dumped(ARRAYS, protocol))
    for name, array in ARRAYS.items():
        assert isinstance(out.value[name], Array)
        back = out.array(out.value[name])
        assert back.dtype == array.dtype and np.array_equal(back, array), name


def test_numpys_older_and_newer_names_are_the_same(tmp_path):
    """In protocol 3 names are lines, whatever their length."""
    content = dumped(ARRAYS["float32"], 3)
    assert b"numpy._core.multiarray" in content or b"numpy.core.multiarray" in content
    for module in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        other = content.replace(b"numpy._core.multiarray", module).replace(b"numpy.core.multiarray", module)
        out = read(tmp_path / "x", other)
        assert np.array_equal(out.array(out.value), ARRAYS["float32"])


def test_a_table_in_an_npy_file(tmp_path):
    np.save(tmp_path / "x.npy", np.array(TREE, dtype=object), allow_pickle=True)
    assert read_object_npy(tmp_path / "x.npy").value == TREE
    np.save(tmp_path / "x.npy", np.array({"k": ARRAYS["float64"]}, dtype=object), allow_pickle=True)
    out = read_object_npy(tmp_path / "x.npy")
    assert np.array_equal(out.array(out.value["k"]), ARRAYS["float64"])


def test_a_pickle_of_many_arrays_takes_the_memory_of_its_table(tmp_path):
    content = dumped({f"clip {i}": {"keypoints": np.zeros((100, 121, 3), np.float32)} for i in range(100)})
    (tmp_path / "x").write_bytes(content)
    tracemalloc.start()
    out = read_pickle(tmp_path / "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(content) > 14e6 and peak < 1e6
    assert out.array(out.value["clip 99"]["keypoints"]).shape == (100, 121, 3)


def test_a_file_that_changed_under_its_table_is_refused(tmp_path):
    out = read(tmp_path / "x", dumped(ARRAYS))
    (tmp_path / "x").write_bytes(dumped(ARRAYS) + b"more")
    with pytest.raises(UserError, match="changed since its table was read"):
        out.array(out.value["float32"])


# -- what must not run


class Evil:
    def __init__(self, call, *arguments):
        self.how = call, arguments

    def __reduce__(self):
        return self.how


def evil(marker: Path) -> dict[str, bytes]:
    """Pickles that make a file if anything runs them."""
    touch = Evil(os.mkdir, str(marker))
    code = f"import os; os.mkdir({str(marker)!r})"
    as_array = np.empty((), object)
    as_array[()] = touch
    argument = code.encode()
    return {
        "a call": dumped(touch),
        "in a table": dumped({0: {"label": touch}}),
        "exec": dumped(Evil(exec, code)),
        "in an array": dumped(as_array),
        "protocol 0": dumped(touch, 0),
        "protocol 2": dumped(touch, 2),
        "in a number of objects": dumped(Evil(np.dtype("O").type, touch)),
        "INST": b"(S'" + argument + b"'\nibuiltins\nexec\n.",
        "OBJ": b"(cbuiltins\nexec\nS'" + argument + b"'\no.",
        "NEWOBJ": b"\x80\x02cbuiltins\nexec\n(X" + struct.pack("<I", len(argument)) + argument + b"t\x81.",
        "an array of another class": b"\x80\x03" + MADE.replace(b"numpy\nndarray", b"builtins\nexec") + b".",
        "a name of many dots": b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
        "a name": b"\x80\x02cos\nsystem\n.",
        "an extension": b"\x80\x02\x82\x01.",
        "a persistent name": b"\x80\x02X\x01\x00\x00\x00aQ.",
        "a buffer from elsewhere": b"\x80\x05\x97.",
        "a class numpy knows": dumped(np.ma.array([1, 2])),
        "a set": dumped({1, 2}),
        "a path": dumped(Path("x")),
    }


@pytest.mark.parametrize("name", evil(Path("x")))
def test_nothing_is_run(tmp_path, name):
    marker = tmp_path / "it ran"
    content = evil(marker)[name]
    for at in range(2):
        if at:
            (tmp_path / "x.npy").write_bytes(npy_header("()", "'|O'") + content)
            with pytest.raises(UserError):
                read_object_npy(tmp_path / "x.npy")
        else:
            assert "refused, it could run code" in refusal(tmp_path / "x", content)
        assert not marker.exists()


def test_the_hostile_ones_would_run(tmp_path):
    """So that the test before can fail."""
    pickle.loads(evil(tmp_path / "it ran")["in a table"])
    assert (tmp_path / "it ran").exists()


# -- what asks for much


def laughs(levels: int) -> bytes:
    """A list that holds the one before ten times, and so on."""
    out = b"\x80\x04]\x94K\x01a"
    for level in range(levels):
        out += b"]\x94" + b"".join(b"h" + bytes([level]) + b"a" for _ in range(10))
    return out + b"."


def text_array(count: int) -> bytes:
    """One number's bytes as text of 9,999 letters, many times."""
    kind = b"cnumpy\ndtype\n\x8c\x05U9999\x85R\x94"
    state = b"(K\x03\x8c\x01<NNNM\x3c\x9cK\x04K\x00tb"
    raw = b"B" + struct.pack("<I", 4 * 9999) + bytes(4 * 9999) + b"\x94"
    again = b"cnumpy.core.multiarray\nscalar\nh\x00h\x01\x86R"
    return b"\x80\x04]" + kind + state + raw + again * count + b"."


BOMBS = {
    "a memo of two billion": (b"\x80\x02]r" + struct.pack("<I", 2**31 - 1) + b".", ""),
    "an exabyte of bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.", "truncated"),
    "an exabyte to write to": (b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b"x.", "truncated"),
    "a terabyte of text": (b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.", "too large: text"),
    "two gigabytes of text": (b"\x80\x04X" + struct.pack("<I", 2**31) + b"x.", "too large: text"),
    "a long frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"K\x01.", ""),
    "a number of a megabyte": (b"\x80\x02\x8b" + struct.pack("<I", 1 << 20) + bytes(1 << 20) + b".", "something else"),
    "a number of 255 bytes": (b"\x80\x02\x8a\xff" + bytes(255) + b".", "a number of more than 64 bits"),
    "a list in itself": (b"\x80\x04]\x94h\x00a.", "nested deeper"),
    "text again and again": (text_array(2000), "too large: text"),
}
# Of these each byte costs: `most` stands for the most steps that are taken.
ENDLESS = {
    "a billion laughs": (lambda most: laughs(9), "too large: more than"),
    "endless laughs": (lambda most: laughs(200), "nested deeper"),
    "deep lists": (lambda most: b"\x80\x04" + b"]" * (most // 3) + b"a" * (most // 3 - 1) + b".", "nested deeper"),
    "deep tuples": (lambda most: b"\x80\x04)" + b"\x85" * (most // 4) + b".", "nested deeper"),
    "marks": (lambda most: b"\x80\x04" + b"(" * most, "too large: more than"),
    "tables": (lambda most: b"\x80\x04" + b"}" * most, "too large: more than"),
    "numbers": (lambda most: b"\x80\x04" + b"M\x00\x10" * most, "too large: more than"),
    "a memo": (lambda most: b"\x80\x04N" + b"\x94" * most, "too large: more than"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_no_memory(tmp_path, name):
    content, reason = BOMBS[name]
    (tmp_path / "x").write_bytes(content)
    tracemalloc.start()
    try:
        said = str(read_pickle(tmp_path / "x").value)
    except UserError as error:
        said = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert said.startswith(reason), said
    assert peak < 40 << 20


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_given_one(tmp_path, name, monkeypatch):
    monkeypatch.setattr(pickle_machine, "MOST_STEPS", 30_000)
    monkeypatch.setattr(pickle_machine, "MOST_MADE", 10_000)
    monkeypatch.setattr(pickles, "MOST_VALUES", 10_000)
    content, reason = ENDLESS[name]
    assert refusal(tmp_path / "x", content(30_000)).startswith(reason)


READ = """
import json, resource, sys, time
from pathlib import Path
from signstream.io.pickles import read_pickle

before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    read_pickle(Path(sys.argv[1]))
except ValueError as error:
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps([str(error), grown, time.process_time() - began]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDLESS)
def test_nor_does_that_take_memory_or_time(tmp_path, name):
    content, reason = ENDLESS[name]
    (tmp_path / "x").write_bytes(content(pickle_machine.MOST_STEPS))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", READ, str(tmp_path / "x")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=55, check=True)
    said, grown, seconds = json.loads(done.stdout)
    assert said.startswith(reason) and grown < 150 and seconds < 5, (said, grown, seconds)


@pytest.mark.parametrize(
    ("shape", "size"), [((2**30, 2**30), 4), ((2**30,), 4), ((-1,), 4), ((3,), 4), ((1,) * 9, 4), ((2.0,), 8)]
)
def test_a_shape_that_its_bytes_do_not_fill_is_refused(tmp_path, shape, size):
    state = dumped((1, shape, np.dtype("<f4"), False, bytes(size)), 3)[2:-1]
    line = refusal(tmp_path / "x", b"\x80\x03" + MADE + state + b"b.")
    assert line.startswith(("truncated: shape", "not a pickle that can be read (the shape"))


@pytest.mark.parametrize("kind", ["c16", "f16", "V8", "S3", "M8[s]", "U3"])
def test_arrays_of_other_types_are_refused(tmp_path, kind):
    refusal(tmp_path / "x", dumped(np.zeros(2, kind)))
    refusal(tmp_path / "x", dumped(np.zeros(2, [("a", "<f4")])))


NOT_SOUND = {
    "nothing": b"",
    "text": b"annotations: []\n",
    "no protocol it knows": b"\x80\x09N.",
    "an empty stack": b"\x80\x04.",
    "a mark below": b"\x80\x04K\x01(\x85.",
    "no mark": b"\x80\x04}u.",
    "half a pair": b"\x80\x04}(K\x01u.",
    "a table as a key": b"\x80\x04}}N s.".replace(b" ", b""),
    "a list as a table": b"\x80\x04]K\x01K\x02s.",
    "a value that was not kept": b"\x80\x04h\x07.",
    "nothing to keep": b"\x80\x04\x94.",
    "text that is none": b"\x80\x04\x8c\x02\xff\xfe.",
    "bytes for a value": dumped({"a": b"bytes"}),
    "a name for a value": b"\x80\x02cnumpy\nndarray\n.",
    "a type for a value": dumped(np.dtype("f4")),
    "an array without numbers": b"\x80\x03" + MADE + b".",
    "a name without an end": b"\x80\x02c" + b"a" * 10_000,
}


@pytest.mark.parametrize("name", NOT_SOUND)
def test_what_is_no_pickle_is_one_line(tmp_path, name):
    refusal(tmp_path / "x", NOT_SOUND[name])


def test_a_pickle_cut_anywhere_is_refused(tmp_path):
    content = dumped({0: {"label": "A B", "n": np.int64(3)}, "k": ARRAYS["int16"]})
    for end in range(len(content)):
        refusal(tmp_path / "x", content[:end])


@pytest.mark.parametrize(
    "content", [npy_bytes(np.zeros(3)), npy_header("(2,)", "'|O'"), npy_header("()", "'|O'"), b"x"]
)
def test_an_npy_file_without_a_table_is_one_line(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(UserError):
        read_object_npy(tmp_path / "x.npy")


def test_only_files_are_read_and_no_link_leads_out(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "root").mkdir()
    (tmp_path / "x").write_bytes(dumped(TREE))
    (tmp_path / "root" / "x").symlink_to(tmp_path / "x")
    with pytest.raises(UserError, match="not a file, but a pipe"):
        read_pickle(tmp_path / "pipe")
    with pytest.raises(UserError, match="missing file"):
        read_pickle(tmp_path / "nothing")
    with pytest.raises(UserError, match="a link that leads out of"):
        read_pickle(tmp_path / "root" / "x", tmp_path / "root")


def is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(type(key) in (str, int) and is_plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str, Array)


def test_mutated_pickles_are_plain_values_or_one_line(tmp_path):
    rng, outcomes = np.random.default_rng(5), []
    seeds = [dumped({**TREE, "k": {"keypoints": ARRAYS["float32"]}}, protocol) for protocol in (3, 4, 5)]
    opcodes = [op.code.encode("latin1") for op in pickletools.opcodes]
    for i in range(600):
        content = mutate(rng, seeds[i % 3], 500)
        if i % 2:
            at = int(rng.integers(2, max(len(content), 3)))
            content = content[:at] + opcodes[rng.integers(len(opcodes))] + content[at + 1 :]
        outcomes.append(outcome(tmp_path / "x", content))
    assert all("\n" not in line for line in outcomes)
    assert 30 < outcomes.count("") < 550, "both outcomes must be there for the fuzz to say something"


# Opcodes and what numpy's names need, to be put together at random.
WORDS = [
    *(b"(", b"N", b"\x88", b"K\x03", b"K\x00", b"M\x00\x01", b"]", b"a", b"e", b")", b"\x85", b"\x86", b"\x87", b"t"),
    *(b"}", b"s", b"u", b"\x94", b"h\x00", b"h\x01", b"h\x02", b"R", b"R", b"b", b"b", b"\x93", b"0", b"2", b"."),
    *(b"\x8c\x02f4", b"\x8c\x01<", b"\x8c\x01C", b"\x8c\x02U1", b"\x8c\x02O8", b"C\x04abcd", b"C\x01b", b"B\0\0\0\0"),
    *(f"c{module}\n{name}\n".encode() for module, name in pickle_machine.NAMES),
    *(
        MADE,
        MADE + b"(K\x01K\x01\x85",
        b"cnumpy\ndtype\n\x8c\x02f4\x89\x88\x87R(K\x03\x8c\x01<NNNtb",
        b"\x89C\x04abcdtb",
    ),
]


@pytest.mark.parametrize("count", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_opcodes_in_any_order_are_plain_values_or_one_line(tmp_path, count):
    rng, outcomes = np.random.default_rng(7), []
    for _ in range(count):
        words = [WORDS[i] for i in rng.integers(len(WORDS), size=rng.integers(1, 14))]
        outcomes.append(outcome(tmp_path / "x", b"\x80\x04" + b"".join(words) + b"."))
    assert all("\n" not in line for line in outcomes)
    assert outcomes.count("") > count / 50 and len({line.split("(")[-1] for line in outcomes}) > 8


def outcome(path: Path, content: bytes) -> str:
    """Why it is refused; "": it is not, and is plain values."""
    try:
        out = read(path, content)
        assert is_plain(out.value)
        for entry in out.value.values() if isinstance(out.value, dict) else []:
            array = entry.get("keypoints") if isinstance(entry, dict) else None
            if isinstance(array, Array):
                assert out.array(array).nbytes == array.bytes < 1000
    except UserError as error:
        return str(error)
    return ""
