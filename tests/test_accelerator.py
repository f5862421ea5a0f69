"""What runs on an accelerator, driven on the CPU: events that are over once the device was waited for, and counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from archcalc import targets
from archcalc.pytorch import step
from archcalc.pytorch.calls import calls_of
from archcalc.pytorch.subject import Settings, Subject, subject
from archcalc.pytorch.timing import interleaved, measuring
from archcalc.pytorch.watch import watch
from tests.measured import CPU

DEVICE = torch.device("cuda", 1)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many events were recorded, and how often the device was waited for."""
    done: Counter[str] = Counter()

    class Event:
        def __init__(self, *, device: str, enable_timing: bool) -> None:
            assert (device, enable_timing) == ("cuda", True)

        def record(self, stream: object) -> None:
            assert stream == f"stream of {DEVICE}"
            done["events"] += 1
            self.place, self.waits = done["events"], done["waits"]

        def elapsed_time(self, other: Event) -> float:
            assert self.waits <= other.waits < done["waits"], "not over yet"
            return float(other.place - self.place)  # milliseconds

    def wait(device: torch.device) -> None:
        assert device == DEVICE
        done["waits"] += 1

    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.accelerator, "synchronize", wait)
    return done


def on_the_device(name: str, optimizer: str = "none") -> Subject:
    """A network whose tensors stay on the CPU, as if they were on the device."""
    made = subject(targets.resolve(name), Settings(CPU), optimizer)
    return replace(made, settings=Settings(DEVICE))


def test_rows_take_two_events_each_and_one_wait_a_pass(done: Counter[str]) -> None:
    one = on_the_device("lenet5")
    with measuring(one.module, one.tensors, CPU):
        calls = calls_of(one)
        assert not done
        one.module.register_forward_hook(lambda *_: done.update(passes=1))
        seen = watch(one, calls, seconds=1e-6, most=2)
    assert len(seen.entries) == 16  # layers of LeNet-5
    assert seen.whole.runs == seen.unwatched.runs == 2
    # events follow one another by a millisecond: a call takes one, a pass 2·16 + 1, one that nobody watches 1
    assert {timing.seconds for _, timing in seen.entries} == {(0.001, 0.001)}
    assert seen.whole.seconds == (0.033, 0.033)
    assert seen.unwatched.seconds == (0.001, 0.001)
    assert done["waits"] == done["passes"] > 4


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_training_step_takes_four_events_and_one_wait(optimizer: str, done: Counter[str]) -> None:
    one = on_the_device("lenet5", optimizer)
    run = step._Step(one, optimizer)
    (whole,) = interleaved([run], DEVICE, min_seconds=1e-6, min_runs=2, warmup=1)
    assert whole.seconds == (0.005, 0.005)
    steps = len(run.marks)
    assert done == {"waits": steps, "events": 4 * steps + 2 * whole.runs}
    marks: Any = run.marks[-1]
    assert [run.clock.seconds(a, b) for a, b in pairwise(marks)] == [0.001] * 3
