"""Watch: passes in which every call that does the work of a report's rows is timed, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from torch.overrides import TorchFunctionMode

from archcalc.errors import CheckError
from archcalc.pytorch.calls import Calls, Entry, without
from archcalc.pytorch.subject import Subject
from archcalc.pytorch.timing import Share, Timing, clock_of, interleaved, replaced


@dataclass(frozen=True)
class Watched:
    """Passes in which every entry was timed, beside as many that nobody watched; samples of one pass have one place."""

    entries: tuple[tuple[Entry, Timing], ...]
    whole: Timing
    unwatched: Timing
    missing: tuple[Entry, ...]  # of which no call was heard


def watch(
    one: Subject, calls: Calls, *, seconds: float, most: int = 100, progress: Share = lambda share: None
) -> Watched:
    """Time every entry of a module in whole passes, unwatched ones between them, in inference mode and eval mode.

    Raises CheckError for a module that calls other functions from pass to pass.
    """
    watcher = Watch(one, calls)
    forward = one.forward()
    unwatched, whole = interleaved(
        [forward, forward],
        one.settings.device,
        within=[nullcontext, watcher.installed],
        min_seconds=seconds / 2,
        max_runs=most,
        shortest=0,
        progress=progress,
    )
    passes = watcher.passes[-whole.runs :]
    timed = (entry for entry in calls.entries if entry.events)
    entries = tuple((entry, Timing(samples)) for entry, samples in zip(timed, zip(*passes, strict=True), strict=True))
    return Watched(entries, whole, unwatched, tuple(entry for entry in calls.entries if not entry.events))


class Watch(TorchFunctionMode):
    """Times the calls of a pass that are known beforehand; of what modules do inside it sees nothing."""

    def __init__(self, one: Subject, calls: Calls) -> None:
        super().__init__()
        self.name = one.name
        self.clock = clock_of(one.settings.device)
        self.entries = tuple(entry for entry in calls.entries if entry.events)
        places = {place: i for i, entry in enumerate(self.entries) for place in entry.events}
        self.plan = [(event.function, places.get(place)) for place, event in enumerate(calls.events)]
        self.needed = any(function is not None and entry is not None for function, entry in self.plan)
        if not self.needed:  # no mode, and nothing but modules to be met
            self.plan = [(function, entry) for function, entry in self.plan if function is None]
        self.forwards = {part: partial(self._module, part.forward) for part in calls.units}
        self.passes: list[tuple[float, ...]] = []
        self.stamps: list[tuple[int, Any, Any]] = []
        self.places = count()
        self.inside = self.astray = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Watch the one pass that runs meanwhile. Raises CheckError where it is not the pass that was listened to."""
        self.stamps, self.places, self.astray = [], count(), False
        with replaced(self.forwards), self if self.needed else nullcontext():
            yield
        if self.astray or next(self.places) != len(self.plan):
            raise CheckError(f"{self.name} does not call the same functions in every pass, so its rows cannot be timed")
        sums = [0.0] * len(self.entries)
        for entry, start, stop in self.stamps:
            sums[entry] += self.clock.seconds(start, stop)
        self.passes.append(tuple(sums))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.inside:
            return func(*args, **(kwargs or {}))
        entry = self._next(func)
        return func(*args, **(kwargs or {})) if entry is None else self.timed(entry, func, args, kwargs or {})

    def _module(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.inside:
            return forward(*args, **kwargs)
        entry = self._next(None)
        with without(self) if self.needed else nullcontext():
            return forward(*args, **kwargs) if entry is None else self.timed(entry, forward, args, kwargs)

    def _next(self, function: Any) -> int | None:
        """The entry of the call that comes now."""
        place = next(self.places)
        expected, entry = self.plan[place] if place < len(self.plan) else (None, None)
        if entry is not None and expected != function:
            self.astray = True
        return entry

    def timed(self, entry: int, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a call between two marks."""
        self.inside = True
        start = self.clock.mark()
        try:
            return run(*args, **kwargs)
        finally:
            self.stamps.append((entry, start, self.clock.mark()))
            self.inside = False
