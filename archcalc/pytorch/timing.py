"""Times of forward passes, in seconds, with every sample kept.

On the CPU a sample is wall time. On an accelerator it is the time between two events in the stream, so it includes the
gaps in which the device waits for the host: for small layers that is what a pass costs.
"""

import logging
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from time import perf_counter
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from archcalc.errors import InputError, UnknownNameError
from archcalc.pytorch.devices import memory_guard, require_dtype, synchronize
from archcalc.pytorch.untouched import untouched

MOST_RUNS = 10_000  # of one measurement on an accelerator, whose events all wait for one synchronisation
NONE: Mapping[str, Tensor] = MappingProxyType({})
STEADY = 0.1  # warm-up ends when three passes in a row are within this fraction of the fastest of them


@dataclass(frozen=True)
class Timing:
    """Seconds of each pass; of a block of passes divided by their number where one pass is too short for the clock."""

    seconds: tuple[float, ...]

    @property
    def runs(self) -> int:
        """How many samples there are."""
        return len(self.seconds)

    @property
    def median(self) -> float:
        """Seconds: half of the samples are below it."""
        return statistics.median(self.seconds)

    @property
    def iqr(self) -> float:
        """Seconds between the quartiles, which are interpolated between samples; 0 for one sample."""
        if self.runs < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return upper - lower

    def images_per_second(self, batch: int) -> float:
        """Images a second at the median for passes of ``batch`` images."""
        return batch / self.median


def time_forward(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    *,
    keywords: Mapping[str, Tensor] = NONE,
    min_seconds: float = 1.0,
    min_runs: int = 10,
    warmup: int = 5,
) -> Timing:
    """Time passes in eval and inference mode on the inputs' device; InputError where its memory is too small."""
    device = _device_of(module, (*inputs, *keywords.values()))
    forward = partial(module, *inputs, **keywords)
    with _measuring(module, (*inputs, *keywords.values()), device):
        one_pass = _warm_up(forward, device, max(warmup, 1))
        if device.type == "cpu":
            return Timing(_wall_samples(forward, max(min_seconds, min_runs * one_pass), min_runs))
        runs = min(max(min_runs, math.ceil(min_seconds / one_pass)), MOST_RUNS)
        return Timing(_event_samples(forward, device, runs))


def time_layers(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: Sequence[str],
    *,
    keywords: Mapping[str, Tensor] = NONE,
    runs: int = 10,
) -> dict[str, Timing]:
    """Time the named submodules within whole passes, their calls in one pass added up.

    A submodule that a pass does not call has no entry. UnknownNameError for a name that is not a submodule's.
    """
    device = _device_of(module, (*inputs, *keywords.values()))
    forward = partial(module, *inputs, **keywords)
    clock = _clock(device)
    parts = {name: _submodule(module, name) for name in names}
    samples: dict[str, list[float]] = defaultdict(list)
    with _measuring(module, (*inputs, *keywords.values()), device):
        _warm_up(forward, device, 3)
        with _marked(parts, clock) as marks:
            for _ in range(max(runs, 1)):
                forward()
                synchronize(device)
                for name, calls in marks.items():
                    samples[name].append(sum(clock.seconds(start, stop) for start, stop in calls))
                marks.clear()
    return {name: Timing(tuple(samples[name])) for name in parts if name in samples}


def prepare(
    module: nn.Module, *, device: torch.device, dtype: torch.dtype = torch.float32, channels_last: bool = False
) -> nn.Module:
    """Move the module, in place, to device, dtype and memory format; InputError where dtype or memory is lacking."""
    require_dtype(device, dtype)
    with memory_guard(device):
        module.to(device=device, dtype=dtype)
        if channels_last:
            module.to(memory_format=torch.channels_last)
    return module


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch's CPU operations use ``count`` threads meanwhile; InputError for less than one."""
    if count < 1:
        raise InputError(f"threads (={count}) must be at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Clock(Protocol):
    def mark(self) -> Any: ...
    def seconds(self, start: Any, stop: Any) -> float: ...


class _WallClock:
    def mark(self) -> float:
        return perf_counter()

    def seconds(self, start: float, stop: float) -> float:
        return stop - start


@dataclass(frozen=True)
class _StreamClock:
    device: torch.device

    def mark(self) -> torch.Event:
        event = torch.Event(device=self.device.type, enable_timing=True)
        event.record(torch.accelerator.current_stream(self.device))
        return event

    def seconds(self, start: torch.Event, stop: torch.Event) -> float:
        return start.elapsed_time(stop) / 1e3


def _clock(device: torch.device) -> _Clock:
    return _WallClock() if device.type == "cpu" else _StreamClock(device)


def _wall_samples(forward: Callable[[], object], seconds: float, min_runs: int) -> tuple[float, ...]:
    timer = _timer(forward)
    samples: list[float] = []
    while len(samples) < max(min_runs, 1):
        samples += timer.blocked_autorange(min_run_time=seconds).times
    return tuple(samples)


def _timer(forward: Callable[[], object]) -> Any:
    log = logging.getLogger("torch.utils.cpp_extension")  # imported with it, it warns of CUDA without a device
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        from torch.utils.benchmark import Timer
    finally:
        log.setLevel(level)
    return Timer(
        "forward()",
        timer=perf_counter,  # the default would wait for an accelerator too
        globals={"forward": forward},
        num_threads=torch.get_num_threads(),
    )


def _event_samples(forward: Callable[[], object], device: torch.device, runs: int) -> tuple[float, ...]:
    clock = _clock(device)
    marks = []
    for _ in range(runs):
        start = clock.mark()
        forward()
        marks.append((start, clock.mark()))
    synchronize(device)
    return tuple(clock.seconds(start, stop) for start, stop in marks)


def _warm_up(forward: Callable[[], object], device: torch.device, least: int) -> float:
    times: list[float] = []
    while len(times) < least or (len(times) < 4 * least and not _steady(times[-3:])):
        start = perf_counter()
        forward()
        synchronize(device)
        times.append(perf_counter() - start)
    return min(times)


def _steady(times: Sequence[float]) -> bool:
    return len(times) == 3 and max(times) <= (1 + STEADY) * min(times)


@contextmanager
def _measuring(module: nn.Module, inputs: tuple[Tensor, ...], device: torch.device) -> Iterator[None]:
    with memory_guard(device), untouched(module, inputs), torch.inference_mode():
        module.eval()
        yield


@contextmanager
def _marked(parts: dict[str, nn.Module], clock: _Clock) -> Iterator[dict[str, list[tuple[Any, Any]]]]:
    marks: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
    handles = []
    for name, part in parts.items():
        started: list[Any] = []
        handles.append(part.register_forward_pre_hook(_starter(started, clock)))
        handles.append(part.register_forward_hook(_stopper(marks, name, started, clock)))
    try:
        yield marks
    finally:
        for handle in handles:
            handle.remove()


def _starter(started: list[Any], clock: _Clock) -> Callable[..., None]:
    def hook(*_: object) -> None:
        started.append(clock.mark())

    return hook


def _stopper(
    marks: dict[str, list[tuple[Any, Any]]], name: str, started: list[Any], clock: _Clock
) -> Callable[..., None]:
    def hook(*_: object) -> None:
        stop = clock.mark()
        marks[name].append((started.pop(), stop))

    return hook


def _device_of(module: nn.Module, inputs: tuple[Tensor, ...]) -> torch.device:
    tensors = [*inputs, *module.parameters()]
    return tensors[0].device if tensors else torch.device("cpu")


def _submodule(module: nn.Module, name: str) -> nn.Module:
    named: dict[str, nn.Module] = dict(module.named_modules(remove_duplicate=False))
    if name not in named:
        close = get_close_matches(name, [one for one in named if one]) or [one for one in named if one][:10]
        raise UnknownNameError(f"{type(module).__name__} has no submodule {name!r}: there are {', '.join(close)}, …")
    return named[name]
