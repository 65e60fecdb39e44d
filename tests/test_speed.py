"""Meters, timers and the progress line."""

import torch

from signstream.training.speed import Speed, Timer, memory_used, progress_line


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
    assert timer.take() == Speed(ms=1000.0, waited_ms=250.0, per_second=10.0)
    now[0] += 1
    assert timer.take() == Speed(ms=1000.0, waited_ms=0.0, per_second=0.0), "no step, and no division by zero"


def test_the_progress_line_has_all_of_it_in_one_line():
    line = progress_line(
        1200,
        20000,
        losses={"loss": 0.51234, "recon": 0.5, "commit": 0.01234},
        status=["entropy 8.12 bits", "dead 12"],
        lr=3e-4,
        speed=Speed(142.2, 3.1, 5120.4),
        unit="chunks",
        memory=3 << 30,
    )
    assert line == (
        "step  1200/20000   6.0% | loss 0.5123 (recon 0.5, commit 0.01234) | entropy 8.12 bits | dead 12 | lr 3.00e-04 "
        "| 142 ms (3 data) | 5120 chunks/s | 3.00 GiB | left 0:44:33"
    )


def test_memory_is_that_of_this_process():
    assert 10 << 20 < memory_used(torch.device("cpu")) < 1 << 40
