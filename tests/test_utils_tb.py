"""What a run writes of itself, before and after a stop; meters, timers and the progress line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from signstream.training.checkpoint import RunFolder
from signstream.training.utils_tb import NoJournal, Speed, Timer, drop_after, memory_used, open_journal, progress_line


def write_steps(folder: RunFolder, first: int, last: int, resume_step: int | None = None) -> None:
    journal = open_journal(folder, resume_step)
    for step in range(first, last + 1):
        journal.numbers(step, step // 4, "train", {"loss": 1 / step, "a/part": torch.tensor(0.1) * step, "dead": step})
        journal.numbers(step, step // 4, "val", {"loss": np.float64(2) / step})
        journal.speed(step, {"ms": 100.0 + first, "waited_ms": 3.0})
    journal.close()


def scalars(folder: RunFolder, tag: str) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.tensorboard)).Reload().Scalars(tag)
    assert len({event.step for event in events}) == len(events), "a step stands there once"
    return {event.step: event.value for event in events}


def test_a_run_stopped_and_resumed_has_the_metrics_of_the_run_that_was_not(tmp_path):
    straight, stopped = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "stopped")
    for folder in (straight, stopped):
        folder.path.mkdir()
    write_steps(straight, 1, 12)
    write_steps(stopped, 1, 7)
    with stopped.metrics.open("ab") as file:
        file.write(b'{"epoch": 2, "los')
    write_steps(stopped, 6, 12, resume_step=5)
    assert stopped.metrics.read_bytes() == straight.metrics.read_bytes()
    assert [json.loads(line)["step"] for line in stopped.speed.read_text().splitlines()] == list(range(1, 13))
    assert scalars(stopped, "train/loss") == pytest.approx({step: 1 / step for step in range(1, 13)})
    assert scalars(stopped, "speed/ms") == {step: 101.0 if step <= 5 else 106.0 for step in range(1, 13)}


def test_a_line_is_in_the_file_as_soon_as_it_is_written_and_json_for_anybody(tmp_path):
    folder = RunFolder(tmp_path)
    journal = open_journal(folder)
    journal.numbers(3, 1, "val", {"z": float("nan"), "b": torch.tensor(0.1), "codes": 7})
    assert (
        folder.metrics.read_text()
        == '{"b": 0.10000000149011612, "codes": 7, "epoch": 1, "split": "val", "step": 3, "z": null}\n'
    )
    with pytest.raises(AssertionError, match="step"):
        journal.numbers(3, 1, "val", {"step": 1})
    journal.close()


def test_pictures_texts_and_histograms_are_written_and_nothing_finite_is_no_error(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    journal = open_journal(RunFolder(tmp_path))
    journal.histogram(1, "weights", torch.tensor([1.0, float("nan")]))
    journal.histogram(1, "nothing", torch.tensor([float("inf")]))
    journal.text(1, "tokens", "<T0><F:c12>")
    journal.image(1, "frame", torch.zeros(3, 4, 4, dtype=torch.uint8))
    journal.close()
    tags = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tags()
    assert set(tags["images"]) == {"frame"}
    assert tags["histograms"] == ["weights"]
    assert tags["tensors"] == ["tokens/text_summary"]


def test_other_ranks_write_nothing(tmp_path):
    journal = open_journal(RunFolder(tmp_path), write=False)
    assert isinstance(journal, NoJournal)
    journal.numbers(1, 0, "train", {"loss": 1.0})
    journal.speed(1, {"ms": 1.0})
    journal.histogram(1, "a", torch.zeros(1))
    journal.sync()
    journal.close()
    assert not list(tmp_path.iterdir())


def test_lines_after_the_checkpoint_and_lines_that_cannot_be_read_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    drop_after(path, 3)
    assert not path.exists()
    for lines, kept in (
        (b'{"step": 1}\n{"step": 4}\n', b'{"step": 1}\n'),
        (b'{"step": 1}\n{"step": 2}', b'{"step": 1}\n'),
        (b"", b""),
        (b'{"step": 3}\n\x00\x00\n{"a": 1}\n[1]\n', b'{"step": 3}\n'),
    ):
        path.write_bytes(lines)
        drop_after(path, 3)
        assert path.read_bytes() == kept


def test_a_timer_tells_waiting_from_work():
    now = [0.0]

    def batches():
        for _ in range(4):
            now[0] += 0.25  # reading
            yield 10

    timer = Timer(clock=lambda: now[0])
    now[0] += 100
    timer.reset()
    for chunks in timer.waiting(batches()):
        now[0] += 0.75  # the step
        timer.step(chunks)
    assert timer.take() == Speed(ms=1000.0, waited_ms=250.0, chunks_per_s=10.0)
    now[0] += 1
    assert timer.take() == Speed(ms=1000.0, waited_ms=0.0, chunks_per_s=0.0), "no step, and no division by zero"


def test_the_progress_line_has_all_of_it_in_one_line():
    losses = {"loss": 0.51234, "recon": 0.5, "commit": 0.01234}
    line = progress_line(1200, 20000, losses, 3e-4, Speed(142.2, 3.1, 5120.4), 3 << 30, entropy=8.123, dead=12)
    assert line == (
        "step  1200/20000   6.0% | loss 0.5123 (recon 0.5, commit 0.01234) | entropy 8.12 bits | dead 12 | lr 3.00e-04 | 142 ms (3 data) "
        "| 5120 chunks/s | 3.00 GiB | left 0:44:33"
    )
    assert "entropy" not in progress_line(1, 2, {"loss": 1.0}, 1e-3, Speed(1, 0, 1), 0)


def test_memory_is_that_of_this_process():
    assert 10 << 20 < memory_used(torch.device("cpu")) < 1 << 40


def test_tensorboard_is_loaded_only_by_who_writes():
    source = Path(__file__).parents[1] / "signstream" / "training" / "utils_tb.py"
    assert not re.search(r"^(from|import) .*tensorboard", source.read_text(), re.M)
