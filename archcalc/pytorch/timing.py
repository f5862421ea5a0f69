"""Times of passes, in seconds, with every sample kept.

On the CPU a sample is wall time. On an accelerator it is the time between two events in the stream, with one
synchronisation after it, so it includes the gaps in which the device waits for the host: for small layers that is what
a pass costs.
"""

import gc
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from random import Random
from time import perf_counter
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from archcalc.errors import InputError, UnknownNameError
from archcalc.pytorch.devices import memory_guard, require_dtype, synchronize
from archcalc.pytorch.untouched import untouched

MOST_RUNS = 10_000
NONE: Mapping[str, Tensor] = MappingProxyType({})
SHORT = 1e-3  # seconds: a pass on the CPU that takes less is repeated until a sample is as long
STEADY = 0.1  # warm-up ends when three passes in a row are within this fraction of the fastest of them

Forward: TypeAlias = Callable[[], object]
Within: TypeAlias = Callable[[], AbstractContextManager[object]]
Share: TypeAlias = Callable[[float], None]
"""Told how much of some work is done, from 0 to 1."""
Progress: TypeAlias = Callable[[str, float], None]
"""Told what is under way and which part of all work is done, from 0 to 1."""


@dataclass(frozen=True)
class Part:
    """Progress of one of several equal parts of the work."""

    progress: Progress
    before: int
    parts: int

    def __call__(self, step: str, share: float) -> None:
        """The share is of this part."""
        self.progress(step, (self.before + share) / self.parts)

    def of(self, step: str) -> Share:
        """Progress of one step, whose name stays."""
        return lambda share: self(step, share)


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
        return spread(self.seconds)

    @property
    def halves(self) -> tuple["Timing", "Timing"]:
        """Every other sample, and the rest: the same network measured twice, interleaved."""
        return Timing(self.seconds[::2]), Timing(self.seconds[1::2] or self.seconds)

    @property
    def repeats(self) -> bool:
        """Whether the medians of the halves differ by no more than the interquartile range."""
        first, second = self.halves
        return abs(first.median - second.median) <= self.iqr

    def images_per_second(self, batch: int) -> float:
        """Images, or other inputs, a second at the median for passes of ``batch`` of them."""
        return batch / self.median

    def ratio_to(self, other: "Timing") -> tuple[float, float]:
        """Median and interquartile range of this time over another's, sample by sample.

        >>> Timing((2.0, 6.0)).ratio_to(Timing((1.0, 2.0)))
        (2.5, 0.5)
        """
        ratios = [a / b for a, b in zip(self.seconds, other.seconds, strict=True)]
        return statistics.median(ratios), spread(ratios)

    def minus(self, *others: "Timing") -> "Timing":
        """What is left of each sample after those of the others are taken off; it may be negative."""
        return Timing(tuple(whole - sum(parts) for whole, *parts in _samples(self, *others)))


def _samples(*timings: Timing) -> Iterator[tuple[float, ...]]:
    return zip(*(one.seconds for one in timings), strict=True)


def spread(values: Sequence[float]) -> float:
    """The interquartile range, interpolated between values; 0 for one value."""
    if len(values) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return upper - lower


def interleaved(
    forwards: Sequence[Forward],
    device: torch.device,
    *,
    within: Sequence[Within] | None = None,
    min_seconds: float = 1.0,
    min_runs: int = 10,
    max_runs: int = MOST_RUNS,
    warmup: int = 5,
    shortest: float = SHORT,
    progress: Share = lambda share: None,
) -> tuple[Timing, ...]:
    """Time several passes in rounds, each once a round, so that a slow moment of the machine meets all of them.

    Rounds, an even number of them, go on until they have taken `min_seconds` for each pass. Their order is drawn anew
    in each round, since a pass leaves its data in the caches. A pass runs inside what its `within` gives, whose own
    time is not measured.
    """
    around = [nullcontext] * len(forwards) if within is None else list(within)
    calls = list(zip(forwards, around, strict=True))
    once = [_warm_up(forward, device, max(warmup, 1), inside) for forward, inside in calls]
    blocks = [math.ceil(max(1.0, shortest / one)) if device.type == "cpu" else 1 for one in once]
    a_round = sum(one * block for one, block in zip(once, blocks, strict=True))
    rounds = min(max(min_runs, math.ceil(min_seconds * len(once) / a_round), 1), max_runs)
    rounds += rounds % 2
    samples: list[list[float]] = [[] for _ in forwards]
    order, draw, clock = list(range(len(calls))), Random(0), clock_of(device)
    with _no_collection():
        for done in range(rounds):
            draw.shuffle(order)
            for i in order:
                forward, inside = calls[i]
                with inside():
                    samples[i].append(_sample(forward, clock, device, blocks[i]))
            progress((done + 1) / rounds)
    return tuple(Timing(tuple(kept)) for kept in samples)


def _sample(forward: Forward, clock: "Clock", device: torch.device, block: int) -> float:
    start = clock.mark()
    for _ in range(block):
        forward()
    stop = clock.mark()
    synchronize(device)
    return clock.seconds(start, stop) / block


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
    device = device_of(module, (*inputs, *keywords.values()))
    forward = partial(module, *inputs, **keywords)
    with measuring(module, (*inputs, *keywords.values()), device):
        (timing,) = interleaved([forward], device, min_seconds=min_seconds, min_runs=min_runs, warmup=warmup)
    return timing


def time_layers(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: Sequence[str],
    *,
    keywords: Mapping[str, Tensor] = NONE,
    runs: int = 10,
    progress: Share = lambda share: None,
) -> dict[str, Timing]:
    """Time the named submodules within whole passes, their calls in one pass added up.

    A submodule that a pass does not call has no entry. UnknownNameError for a name that is not a submodule's.
    """
    device = device_of(module, (*inputs, *keywords.values()))
    forward = partial(module, *inputs, **keywords)
    clock = clock_of(device)
    parts = {name: _submodule(module, name) for name in names}
    samples: dict[str, list[float]] = defaultdict(list)
    marks: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
    brackets = {part: [name for name in names if parts[name] is part] for part in parts.values()}
    with measuring(module, (*inputs, *keywords.values()), device):
        _warm_up(forward, device, 3)
        with replaced({part: _bracketed(part.forward, marks, held, clock) for part, held in brackets.items()}):
            passes = max(runs, 1)
            for done in range(passes):
                progress(done / passes)
                forward()
                synchronize(device)
                for name, calls in marks.items():
                    samples[name].append(sum(clock.seconds(start, stop) for start, stop in calls))
                marks.clear()
    return {name: Timing(tuple(samples[name])) for name in parts if name in samples}


def _bracketed(
    forward: Callable[..., Any], marks: dict[str, list[tuple[Any, Any]]], names: Sequence[str], clock: "Clock"
) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = clock.mark()
        result = forward(*args, **kwargs)
        stop = clock.mark()
        for name in names:
            marks[name].append((start, stop))
        return result

    return timed


@contextmanager
def replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let modules run these functions in place of their forward meanwhile.

    A hook would cost more, and PyTorch takes another path through some modules that have one.
    """
    before = {part: part.__dict__.get("forward") for part in forwards}
    try:
        for part, forward in forwards.items():
            part.__dict__["forward"] = forward
        yield
    finally:
        for part, known in before.items():
            if known is None:
                part.__dict__.pop("forward", None)
            else:
                part.__dict__["forward"] = known


def prepare(
    module: nn.Module, *, device: torch.device, dtype: torch.dtype = torch.float32, channels_last: bool = False
) -> nn.Module:
    """Move the module, in place, to device, dtype and memory format; InputError where dtype or memory is lacking."""
    require_dtype(device, dtype)
    with memory_guard(device):
        module.to(device=device, dtype=dtype)
        for parameter in module.parameters() if channels_last else ():
            if parameter.ndim == 4:  # Module.to fails on those of 5
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
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


class Clock(Protocol):
    """Marks moments of a pass; what is between two of them is known once the device is done."""

    def mark(self) -> Any:
        """This moment."""

    def seconds(self, start: Any, stop: Any) -> float:
        """From one moment to another."""


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


def clock_of(device: torch.device) -> Clock:
    """Wall time on the CPU, events in the stream of an accelerator."""
    return _WallClock() if device.type == "cpu" else _StreamClock(device)


def _warm_up(forward: Forward, device: torch.device, least: int, inside: Within = nullcontext) -> float:
    times: list[float] = []
    while len(times) < least or (len(times) < 4 * least and not _steady(times[-3:])):
        with inside():
            start = perf_counter()
            forward()
            synchronize(device)
            times.append(perf_counter() - start)
    return min(times)


def _steady(times: Sequence[float]) -> bool:
    return len(times) == 3 and max(times) <= (1 + STEADY) * min(times)


@contextmanager
def measuring(module: nn.Module, inputs: tuple[Tensor, ...], device: torch.device) -> Iterator[None]:
    """Eval and inference mode, a module left as it was, and an InputError where memory is too small."""
    with memory_guard(device), untouched(module, inputs), torch.inference_mode():
        module.eval()
        yield


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage is collected while samples are taken."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def device_of(module: nn.Module, inputs: tuple[Tensor, ...]) -> torch.device:
    """Where the inputs are, or else the parameters."""
    tensors = [*inputs, *module.parameters()]
    return tensors[0].device if tensors else torch.device("cpu")


def _submodule(module: nn.Module, name: str) -> nn.Module:
    named: dict[str, nn.Module] = dict(module.named_modules(remove_duplicate=False))
    if name not in named:
        close = get_close_matches(name, [one for one in named if one]) or [one for one in named if one][:10]
        raise UnknownNameError(f"{type(module).__name__} has no submodule {name!r}: there are {', '.join(close)}, …")
    return named[name]
