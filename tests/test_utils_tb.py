"""What a run writes of itself, before and after a stop."""

import json

import numpy as np
import pytest
import torch

from signstream.training.run_folder import RunFolder
from signstream.training.utils_tb import Journal, drop_after


def write_steps(folder: RunFolder, first: int, last: int, resume_step: int | None = None) -> None:
    journal = Journal(folder, resume_step)
    for step in range(first, last + 1):
        journal.numbers(
            step, "train", {"loss": 1 / step, "a/part": torch.tensor(0.1) * step, "dead": step}, epoch=step // 4
        )
        journal.numbers(step, "val", {"loss": np.float64(2) / step}, epoch=step // 4)
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


def test_what_a_resumed_run_drops_is_dropped_whatever_number_its_writer_has(tmp_path, monkeypatch):
    """TensorBoard counts its writers, and as names 10 comes before 9."""
    from tensorboard.summary.writer import event_file_writer

    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(9))
    folder = RunFolder(tmp_path)
    write_steps(folder, 1, 7)
    write_steps(folder, 6, 12, resume_step=5)
    assert sorted(scalars(folder, "train/loss")) == list(range(1, 13))


def test_a_line_is_in_the_file_as_soon_as_it_is_written_and_json_for_anybody(tmp_path):
    folder = RunFolder(tmp_path)
    journal = Journal(folder)
    journal.numbers(3, "val", {"z": float("nan"), "b": torch.tensor(0.1), "codes": 7}, epoch=1)
    assert (
        folder.metrics.read_text()
        == '{"b": 0.10000000149011612, "codes": 7, "epoch": 1, "split": "val", "step": 3, "z": null}\n'
    )
    with pytest.raises(AssertionError, match="step"):
        journal.numbers(3, "val", {"step": 1}, epoch=1)
    journal.close()


def test_pictures_texts_and_histograms_are_written_and_nothing_finite_is_no_error(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    journal = Journal(RunFolder(tmp_path))
    journal.histogram(1, "weights", torch.tensor([1.0, float("nan")]))
    journal.histogram(1, "nothing", torch.tensor([float("inf")]))
    journal.text(1, "tokens", "<T0><F:c12>")
    journal.image(1, "frame", torch.zeros(3, 4, 4, dtype=torch.uint8))
    journal.close()
    tags = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tags()
    assert set(tags["images"]) == {"frame"}
    assert tags["histograms"] == ["weights"]
    assert tags["tensors"] == ["tokens/text_summary"]


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
