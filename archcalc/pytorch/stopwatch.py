"""Timed networks: real forward passes of networks' modules, beside their counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from archcalc import units
from archcalc.analysis import Report, Row
from archcalc.errors import InputError, RoomError
from archcalc.names import some
from archcalc.pytorch.calls import Entry, calls_of
from archcalc.pytorch.devices import described, memory_guard
from archcalc.pytorch.profiled import OUTSIDE, WHOLE, Profile, profile, require_profiler
from archcalc.pytorch.room import require_room, room_for_all
from archcalc.pytorch.subject import (
    DTYPES,
    Settings,
    Subject,
    dtype_named,
    explained,
    rate,
    report_of,
    require_seconds,
    subject,
)
from archcalc.pytorch.timing import Part, Progress, Timing, interleaved, measuring
from archcalc.pytorch.watch import watch
from archcalc.table import Cell, Column, Table
from archcalc.targets import Target

__all__ = ["DTYPES", "TimedLayer", "TimedNetwork", "dtype_named", "require_seconds", "time_network", "time_networks"]

SCHEMA = "archcalc.time/1"
CLOSE = 0.05  # of the pass: medians that add up to another sum than this are said not to


@dataclass(frozen=True)
class TimedLayer:
    """What was timed as one in a pass, and the rows that say what it costs: one row, or all that one call runs."""

    name: str
    kind: str
    rows: tuple[Row, ...]
    times: Timing

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all rows."""
        return sum(row.macs for row in self.rows)


@dataclass(frozen=True)
class TimedNetwork:
    """Measured passes of one network on one device, with the environment they depend on.

    `strange` are calls that no row describes, or that are not those the rows were traced from; `missing` are rows of
    which no call was seen. A sample of the watched pass, of its layers and of the unwatched one come from one round.
    """

    report: Report
    batch: int  # images in a pass
    environment: Mapping[str, Any]
    channels_last: bool
    whole: Timing
    watched: Timing | None = None  # passes in which every layer was timed, if any
    layers: tuple[TimedLayer, ...] = ()
    unwatched: Timing | None = None  # passes between those
    label: str = ""
    strange: tuple[str, ...] = ()
    calls: tuple[TimedLayer, ...] = ()  # without rows
    missing: tuple[str, ...] = ()
    paired: bool = False  # with the networks timed beside it, sample by sample
    profile: Profile | None = None

    @property
    def gmacs_per_second(self) -> float:
        """Achieved multiply-accumulates a second at the median, in 10^9."""
        return float(self.report.total.macs / self.whole.median / 1e9)

    @property
    def outside(self) -> Timing:
        """What each watched pass takes besides the rows. Raises InputError where layers were not timed."""
        if self.watched is None:
            raise InputError("the layers of this network were not timed")
        return self.watched.minus(*(one.times for one in self.layers))

    def layer_table(self) -> Table:
        """Time of every layer beside its MACs; what a pass takes besides its layers is a row of its own."""
        outside = self.outside
        assert self.watched is not None
        watched = self.watched.median
        rows: list[tuple[Cell, ...]] = []
        for one in self.layers:
            rate = f"{one.macs / one.times.median / 1e9:.2f}" if one.macs else None
            rows.append((one.name, one.kind, one.macs, *_times(one.times, watched), rate))
        rows.append((OUTSIDE, None, None, *_times(outside, watched), None))
        macs = self.report.total.macs
        total: tuple[Cell, ...] = (WHOLE, None, macs, *_times(self.watched, watched), f"{macs / watched / 1e9:.2f}")
        columns = [Column("layer", "left"), Column("kind", "left"), *map(Column, ("MACs", "median", "IQR", "share"))]
        columns.append(Column("GMAC/s"))
        if self.profile is not None:
            columns += map(Column, Profile.HEADERS)
            rows = [(*row, *self.profile.cells(str(row[0]))) for row in rows]
            total = (*total, *self.profile.cells(WHOLE))
        notes = [*self._notes(outside, watched), *([self.profile.note] if self.profile else [])]
        name = f"{self.report.title}, {self.environment['device_name']}"
        return Table(name, tuple(columns), tuple(rows), total, tuple(notes))

    def _notes(self, outside: Timing, watched: float) -> Iterator[str]:
        """What the table's times are of, and what is not in them."""
        share = units.percent(outside.median / watched)
        yield (
            f"Outside every row: {share} of the pass, spent between the calls of the rows on Python, hooks and the "
            "watching itself. It is each pass minus its rows, then the median."
        )
        together = (sum(one.times.median for one in self.layers) + outside.median) / watched
        if abs(together - 1) > CLOSE:
            yield (
                f"The medians of the rows add up to {units.percent(together)} of that of the pass, since each median "
                "leaves out other slow moments."
            )
        if self.unwatched is not None and self.watched is not None:
            plain = self.unwatched.median
            cost = self.watched.minus(self.unwatched).median / plain
            added = units.percent(cost) if cost > 0 else "nothing that can be told"
            yield f"Watching adds {added} to the {units.seconds(plain)} of passes that nobody watched, run in turn."
        yield self.repeated
        yield "archcalc roofline says why a layer of few MACs may take long: it waits for memory, or for being started."
        several = sum(len(one.rows) > 1 for one in self.layers)
        if several:
            yield f"Calls that run several rows at once: {several}; each has the name of its first row (JSON has all)."
        yield from self.strange
        if self.missing:
            yield f"No call was seen that runs {some(self.missing)}: in no line."

    @property
    def repeated(self) -> str:
        """The network measured twice, interleaved, in words."""
        first, second = self.whole.halves
        apart = units.seconds(abs(first.median - second.median))
        agrees = "within" if self.whole.repeats else "more than"
        return (
            f"Measured twice in turn (A/A): {units.seconds(first.median)} and {units.seconds(second.median)}, {apart} "
            f"apart, {agrees} the interquartile range of {units.seconds(self.whole.iqr)}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Every sample in seconds, with the environment: schema archcalc.time/1."""
        first, second = self.whole.halves
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "network": self.report.network.name,
            "input": list(self.report.input),
            "environment": dict(self.environment),
            "settings": self.label,
            "channels_last": self.channels_last,
            "macs": self.report.total.macs,
            "median_s": self.whole.median,
            "iqr_s": self.whole.iqr,
            "images_per_s": self.whole.images_per_second(self.batch),
            "gmacs_per_s": self.gmacs_per_second,
            "seconds": list(self.whole.seconds),
            "twice": {"median_s": [first.median, second.median], "within_iqr": self.whole.repeats},
            "layers": [_record(one) for one in self.layers],
        }
        if self.watched is not None:
            record |= {
                "watched": _spread(self.watched),
                "unwatched": None if self.unwatched is None else _spread(self.unwatched),
                "outside": _spread(self.outside),
                "calls": [_record(one) for one in self.calls],
                "missing": list(self.missing),
            }
        return record if self.profile is None else record | {"profile": self.profile.to_dict()}


def _record(one: TimedLayer) -> dict[str, Any]:
    rows = [row.name for row in one.rows]
    return {"name": one.name, "kind": one.kind, "rows": rows, "macs": one.macs, **_spread(one.times)}


def _spread(times: Timing) -> dict[str, float]:
    return {"median_s": times.median, "iqr_s": times.iqr}


def time_network(
    target: Target,
    *,
    device: torch.device,
    dtype: str = "float32",
    channels_last: bool = False,
    threads: int | None = None,
    layers: bool = False,
    seconds: float = 1.0,
) -> TimedNetwork:
    """Time forward passes of the target's module on random input for at least `seconds`, as `time_networks` does."""
    settings = Settings(device, dtype, channels_last, threads)
    return time_networks([target], settings, layers=layers, seconds=seconds)[0]


def time_networks(
    targets: Sequence[Target],
    settings: Settings,
    *,
    layers: bool = False,
    profiled: bool = False,
    seconds: float = 1.0,
    progress: Progress = lambda step, share: None,
) -> tuple[TimedNetwork, ...]:
    """Time forward passes of the targets' modules on random input, in turn, for at least `seconds` each.

    A module is built from the network, or is the one that the network was traced from. Networks that memory does not
    hold at once are timed one after another, and are not `paired`.

    Raises InputError for a shape that is not of ints, a dtype or thread count that cannot be, memory that is too
    small; UnknownNameError for a dtype there is not; CheckError where a module fails.
    """
    settings.check()
    require_seconds(seconds)
    if settings.compiled and (layers or profiled):
        raise InputError("a compiled pass has no layers that could be timed: leave out --compile or --layers")
    if profiled:
        require_profiler(settings.device)
    reports = [report_of(one) for one in targets]
    for report in reports:
        require_room(report, settings.device, settings.dtype)
    if len(targets) > 1 and room_for_all(reports, settings.device, settings.dtype):
        with suppress(RoomError):
            return _time(targets, settings, layers, profiled, seconds, progress)
    results: list[TimedNetwork] = []
    for target in targets:
        part = Part(progress, len(results), len(targets))
        results += _time([target], settings, layers, profiled, seconds, part)
    return tuple(results)


def _time(
    targets: Sequence[Target],
    settings: Settings,
    layers: bool,
    profiled: bool,
    seconds: float,
    progress: Progress,
) -> tuple[TimedNetwork, ...]:
    with settings.applied(), memory_guard(settings.device):
        return _timed(targets, settings, layers, profiled, seconds, progress)


def _timed(
    targets: Sequence[Target], settings: Settings, layers: bool, profiled: bool, seconds: float, progress: Progress
) -> tuple[TimedNetwork, ...]:
    """All targets at once. What memory holds is in this frame, which the guard around it clears."""
    parts = 1 + len(targets) * (layers or profiled)
    names = " and ".join(dict.fromkeys(one.network.name for one in targets))
    place = f" on {settings.device}"
    progress(f"{names}{place}: making it ready", 0)
    subjects = [subject(target, settings) for target in targets]
    with ExitStack() as stack:
        for one in subjects:
            stack.enter_context(measuring(one.module, one.tensors, settings.device))
        stack.enter_context(explained(*subjects))
        forwards = [one.forward() for one in subjects]
        wholes = interleaved(
            forwards, settings.device, min_seconds=seconds, progress=Part(progress, 0, parts).of(f"{names}{place}")
        )
        results = [
            TimedNetwork(
                one.report,
                one.batch,
                settings.facts,
                settings.channels_last,
                whole,
                label=settings.label,
                paired=len(targets) > 1,
            )
            for one, whole in zip(subjects, wholes, strict=True)
        ]
        if layers or profiled:
            for i, one in enumerate(subjects):
                part = Part(progress, 1 + i, parts)
                results[i] = _watched(results[i], one, profiled, seconds, part)
    return tuple(results)


def _watched(result: TimedNetwork, one: Subject, profiled: bool, seconds: float, part: Part) -> TimedNetwork:
    """The result with its layers."""
    calls = calls_of(one)
    seen = watch(one, calls, seconds=seconds, progress=part.of(f"{one.name} on {one.settings.device}: layers"))
    found = [(entry, _layer(entry, times, one)) for entry, times in seen.entries]
    return replace(
        result,
        watched=seen.whole,
        unwatched=seen.unwatched,
        layers=tuple(layer for entry, layer in found if entry.rows),
        calls=tuple(layer for entry, layer in found if not entry.rows),
        strange=tuple(_strange(entry, layer) for entry, layer in found if not entry.alike),
        missing=tuple(row.name for entry in seen.missing for row in entry.rows),
        profile=profile(one, calls) if profiled else None,
    )


def _layer(entry: Entry, times: Timing, one: Subject) -> TimedLayer:
    if len(entry.rows) == 1:
        return TimedLayer(entry.name, entry.rows[0].kind, entry.rows, times)
    call = entry.calls[0]
    kind = call.function.rpartition(".")[2] or type(one.module.get_submodule(call.path)).__name__
    rows = f"{len(entry.rows)} rows"
    return TimedLayer(entry.name, f"{kind}, {rows}" if entry.rows and entry.alike else kind, entry.rows, times)


def _strange(entry: Entry, layer: TimedLayer) -> str:
    calls = some([call.name for call in entry.calls])
    if not entry.rows:
        return f"No row describes {calls}, {units.seconds(layer.times.median)}: it is outside every row."
    return f"{some([row.name for row in entry.rows])} were traced from other calls; here {calls} did their work."


def summary(results: Sequence[TimedNetwork]) -> Table:
    """One line for each network and device; several networks beside the first on their device."""
    speed = rate(result.report for result in results)
    headers = ["batch", "MACs", "median", "IQR", "A/A", speed, "GMAC/s", "runs"]
    several = len({result.report.network.name for result in results}) > 1 or _several(results)
    columns = (Column("network", "left"), Column("device", "left"), Column("dtype", "left"), *map(Column, headers))
    rows = [_summed(result) for result in results]
    machines = [f"{one.environment['device']}: {described(one.environment)}" for one in results]
    notes = [*dict.fromkeys(machines), AGAIN]
    if several:
        columns += (Column("MACs ratio"), Column("time ratio"), Column("its IQR"))
        rows = [(*row, *_ratios(result, _first(result, results))) for row, result in zip(rows, results, strict=True)]
        notes.append("Ratios are to the first network; that of the times is taken in each round, before the median.")
        if not all(result.paired for result in results):
            notes.append(
                "Timed one after another, since memory does not hold them at once: time ratios are of medians."
            )
    unsteady = [result.report.network.name for result in results if not result.whole.repeats]
    if unsteady:
        notes.append(f"Apart by more than the IQR: {', '.join(unsteady)}. The machine was not steady; measure longer.")
    return Table("forward passes", columns, tuple(rows), notes=tuple(notes))


AGAIN = "A/A: every other sample against the rest, as if the same network were timed twice in turn; medians apart."


def _summed(result: TimedNetwork) -> tuple[Cell, ...]:
    first, second = result.whole.halves
    return (
        result.report.network.name,
        str(result.environment["device"]),
        result.label or str(result.environment["dtype"]),
        result.batch,
        result.report.total.macs,
        units.seconds(result.whole.median),
        units.seconds(result.whole.iqr),
        units.seconds(abs(first.median - second.median)),
        f"{result.whole.images_per_second(result.batch):.1f}",
        f"{result.gmacs_per_second:.1f}",
        result.whole.runs,
    )


def _several(results: Sequence[TimedNetwork]) -> bool:
    places = [str(result.environment["device"]) for result in results]
    return len(set(places)) < len(places)


def _first(result: TimedNetwork, results: Sequence[TimedNetwork]) -> TimedNetwork:
    """The first network timed on the same device."""
    return next(one for one in results if one.environment["device"] == result.environment["device"])


def _ratios(result: TimedNetwork, first: TimedNetwork) -> tuple[Cell, ...]:
    macs = units.ratio(result.report.total.macs / first.report.total.macs) if first.report.total.macs else None
    if result is first:
        return macs, units.ratio(1), None
    if not (result.paired and first.paired):
        return macs, units.ratio(result.whole.median / first.whole.median), None
    ratio, spread = result.whole.ratio_to(first.whole)
    return macs, units.ratio(ratio), units.ratio(spread)


def layers_csv(results: Sequence[TimedNetwork]) -> Table:
    """Every layer of every network in one table of plain numbers."""
    headers = ("network", "device", "layer", "kind", "rows", "MACs", "median_s", "iqr_s")
    rows: list[tuple[Cell, ...]] = []
    for result in results:
        name, device = result.report.network.name, str(result.environment["device"])
        for one in result.layers:
            names = " ".join(row.name for row in one.rows)
            rows.append((name, device, one.name, one.kind, names, one.macs, one.times.median, one.times.iqr))
        whole, outside = result.watched, result.outside
        assert whole is not None
        rows.append((name, device, OUTSIDE, None, None, None, outside.median, outside.iqr))
        rows.append((name, device, WHOLE, None, None, result.report.total.macs, whole.median, whole.iqr))
    return Table("", tuple(map(Column, headers)), tuple(rows))


def _times(times: Timing, whole: float) -> tuple[str, str, str]:
    """Median, interquartile range, share of the pass."""
    return units.seconds(times.median), units.seconds(times.iqr), units.percent(times.median / whole)
