"""Profiled: one watched pass under torch.profiler, whose times of the rows stand beside the stopwatch's."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, record_function, supported_activities
from torch.profiler import profile as profiler

from archcalc import units
from archcalc.errors import CheckError, InputError
from archcalc.pytorch.calls import Calls, without
from archcalc.pytorch.devices import synchronize
from archcalc.pytorch.subject import Subject
from archcalc.pytorch.timing import Forward
from archcalc.pytorch.watch import Watch
from archcalc.table import Cell

WHOLE = "whole pass"
OUTSIDE = "outside every row"


@dataclass(frozen=True)
class Profile:
    """Seconds of every row in one pass, by the stopwatch and by the profiler; the profiler's trace of that pass."""

    stopwatch: Mapping[str, float]
    profiler: Mapping[str, float]
    device: str
    trace: bytes

    HEADERS: ClassVar[tuple[str, ...]] = ("profiled pass", "profiler", "difference")

    def cells(self, name: str) -> tuple[Cell, ...]:
        """A line's time by the stopwatch, by the profiler, and the profiler's beyond the stopwatch's."""
        ours, theirs = self._of(self.stopwatch, name), self._of(self.profiler, name)
        return units.seconds(ours), units.seconds(theirs), units.seconds(theirs - ours)

    @staticmethod
    def _of(times: Mapping[str, float], name: str) -> float:
        if name != OUTSIDE:
            return times[name]
        return times[WHOLE] - sum(seconds for row, seconds in times.items() if row != WHOLE)

    @property
    def note(self) -> str:
        """What the two times are."""
        inside = (
            "wall time in a range around the same call"
            if self.device == "cpu"
            else "the kernels of that call alone, without the gaps between them"
        )
        return f"One pass more, under torch.profiler: its time of a row is {inside}. The profiler slows that pass down."

    def to_dict(self) -> dict[str, Any]:
        """Seconds by row, by both."""
        return {"stopwatch_s": dict(self.stopwatch), "profiler_s": dict(self.profiler)}


class _Ranged(Watch):
    """Also tells the profiler where a row's call starts and ends."""

    def __init__(self, one: Subject, calls: Calls) -> None:
        super().__init__(one, calls)
        self.names = [entry.name for entry in self.entries]

    def whole(self, forward: Forward, device: torch.device) -> float:
        """Seconds of a pass, which is a range too."""
        with without(self):  # to enter a range is a call
            whole = record_function(WHOLE)
            whole.__enter__()  # type: ignore[no-untyped-call]
        start = self.clock.mark()
        forward()
        stop = self.clock.mark()
        synchronize(device)
        with without(self):
            whole.__exit__(None, None, None)
        return self.clock.seconds(start, stop)

    def timed(self, entry: int, run: Any, args: Any, kwargs: Any) -> Any:
        """Run a call between two marks, in a range of the row's name."""
        with record_function(self.names[entry]):
            return super().timed(entry, run, args, kwargs)


def profile(one: Subject, calls: Calls) -> Profile:
    """Profile a pass in inference mode and eval mode, after one that is thrown away. Raises CheckError."""
    device = one.settings.device
    watch = _Ranged(one, calls)
    forward = one.forward()
    for _ in range(2):
        with _recording(device) as recorded, watch.installed():
            whole = watch.whole(forward, device)
    timed = zip(watch.entries, watch.passes[-1], strict=True)
    stopwatch = {entry.name: seconds for entry, seconds in timed if entry.rows}
    names = {*stopwatch, WHOLE}
    found = dict.fromkeys(names, 0.0)
    for event in recorded.events() or ():
        if event.name in names and event.device_type == DeviceType.CPU and event.is_user_annotation:
            micro = event.time_range.elapsed_us() if device.type == "cpu" else kernels(event, names)
            found[event.name] += micro / 1e6
    return Profile(
        {**stopwatch, WHOLE: whole},
        {name: found[name] for name in (*stopwatch, WHOLE)},
        device.type,
        _trace(recorded),
    )


def kernels(event: Any, ranges: Collection[str]) -> float:
    """Microseconds of the kernels that an event and those in it have started.

    The profiler may give a range's own span on the device as a kernel of that name, which would count them twice.
    """
    own = sum(one.duration for one in event.kernels if one.name not in ranges)
    return float(own + sum(kernels(one, ranges) for one in event.cpu_children))


def require_profiler(device: torch.device) -> None:
    """Raise InputError where torch.profiler does not see what runs on the device."""
    if _activity(device) not in supported_activities():  # type: ignore[no-untyped-call]
        raise InputError(f"torch.profiler does not see what runs on {device}: leave out --profile and --trace")


def _activity(device: torch.device) -> Any:
    """What the profiler calls work on the device; None where it has no name for it."""
    return getattr(ProfilerActivity, device.type.upper(), None)


@contextmanager
def _recording(device: torch.device) -> Iterator[Any]:
    activities = {ProfilerActivity.CPU, _activity(device)}
    said = os.environ.setdefault(_LOG, "99")  # it says on standard error that it starts
    try:
        with profiler(activities=activities, acc_events=True) as recorded:
            yield recorded
    finally:
        if said == "99":
            os.environ.pop(_LOG, None)


_LOG = "KINETO_LOG_LEVEL"


def _trace(recorded: Any) -> bytes:
    """The Chrome trace. Raises CheckError where it is not JSON."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(file))
        content = file.read_bytes()
    try:
        json.loads(content)
    except ValueError as error:
        raise CheckError(f"torch.profiler wrote a trace that is no JSON: {error}") from None
    return content
