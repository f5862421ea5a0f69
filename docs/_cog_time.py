"""Cog blocks about measured time: which calls of a pass are timed, and what results files say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from _cog_results import machine, results

from archcalc import units
from archcalc.table import Cell, Column, Table

__all__ = ["layer_times", "step_times", "timed_lines", "two_runs"]

LISTENED = ("resnet18", "googlenet", "densenet121", "mobilenet_v3_small", "vit_b_16", "swin_t")


def timed_lines() -> None:
    """Models of torchvision: how many rows run, how many calls they are timed in, rows that no call was heard for."""
    import torch

    from archcalc import targets
    from archcalc.pytorch.calls import calls_of
    from archcalc.pytorch.subject import Settings, subject
    from archcalc.pytorch.timing import measuring

    lines = []
    for name in LISTENED:
        one = subject(targets.resolve(f"torch:torchvision.models:{name}"), Settings(torch.device("cpu")))
        with measuring(one.module, one.tensors, one.settings.device):
            entries = calls_of(one).entries
        timed = [entry for entry in entries if entry.events and entry.rows]
        rows = sum(len(entry.rows) for entry in entries)
        several = [entry for entry in timed if len(entry.rows) > 1]
        modules = sum(not entry.calls[0].function for entry in timed)
        unlike = sum(len(entry.rows) for entry in entries if not entry.alike)
        lines.append((name, rows, len(timed), modules, len(timed) - modules, len(several), unlike))
    headers = ("model", "rows that run", "lines", "of modules", "of functions", "of several rows", "rows not matched")
    _markdown(headers, lines, left=1)


def two_runs() -> None:
    """Results of `archcalc time`: the two interleaved runs of every network."""
    _results("time", ("network", "settings", "first", "second", "apart", "IQR", "within"), _runs, left=2)


def layer_times() -> None:
    """Results of `archcalc time --layers`: what is outside every row, what watching takes, what the profiler says."""
    headers = ("network", "settings", "lines", "outside every row", "watching", "pass profiled", "profiler")
    _results("time", headers, _layers, left=2)


def step_times() -> None:
    """Results of `archcalc time --step`: parts of a training step, backward over forward."""
    headers = (
        "network",
        "settings",
        "optimizer",
        "forward",
        "backward",
        "optimizer",
        "MACs ratio",
        "time ratio",
        "IQR",
    )
    _results("step", headers, _step, left=3)


def _runs(one: dict[str, Any]) -> Iterator[Cell]:
    first, second = one["twice"]["median_s"]
    yield from map(units.seconds, (first, second, abs(first - second), one["iqr_s"]))
    yield "yes" if one["twice"]["within_iqr"] else "no"


def _layers(one: dict[str, Any]) -> Iterator[Cell] | None:
    if "watched" not in one:
        return None
    watched, unwatched, outside = (one[name]["median_s"] for name in ("watched", "unwatched", "outside"))
    cells: list[Cell] = [
        len(one["layers"]),
        units.percent(outside / watched),
        units.percent(watched / unwatched - 1),
    ]
    profile = one.get("profile")
    cells += [profile and units.seconds(profile[name]["whole pass"]) for name in ("stopwatch_s", "profiler_s")]
    return iter(cells)


def _step(one: dict[str, Any]) -> Iterator[Cell]:
    yield one["optimizer"]
    yield from (units.seconds(part["median_s"]) for part in one["parts"])
    ratio = one["backward_to_forward"]
    yield from (value and units.ratio(value) for value in (ratio["macs"], ratio["time"], ratio["time_iqr"]))


def _results(
    kind: str, headers: Sequence[str], cells: Callable[[dict[str, Any]], Iterator[Cell] | None], *, left: int
) -> None:
    """A table for each machine that results files of a kind were measured on."""
    found = []
    for data in results(kind):
        found += data if isinstance(data, list) else [data]
    lines = [(one, cells(one)) for one in found if "settings" in one]
    lines = [(one, line) for one, line in lines if line is not None]
    if not lines:
        print("None recorded yet.")
    for told, group in groupby(lines, key=lambda line: machine(line[0]["environment"])):
        print(f"{told}\n")
        rows = [(one["network"], _settings(one), *(line or ())) for one, line in group]
        _markdown(headers, rows, left=left)
        print()


def _settings(one: dict[str, Any]) -> str:
    return f"{units.shape(one['input'])}, {one['settings']}"


def _markdown(headers: Sequence[str], rows: Sequence[tuple[Cell, ...]], *, left: int) -> None:
    columns = tuple(Column(header, "left" if i < left else "right") for i, header in enumerate(headers))
    print(Table("", columns, tuple(rows)).to_markdown(), end="")
