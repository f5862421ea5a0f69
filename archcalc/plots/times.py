"""Measured times for plots: what `archcalc time --output FILE` wrote, or a timed network of `archcalc.pytorch`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from archcalc import units
from archcalc.analysis import Report
from archcalc.errors import InputError

Timed: TypeAlias = "str | Path | Mapping[str, Any] | Sequence[Any] | Any"
"""A file, a record or several of them, or timed networks with a `to_dict`."""


@dataclass(frozen=True)
class Times:
    """Medians of one network's passes, in seconds: of each layer that was timed, and of a pass as a whole."""

    layers: Mapping[str, float]
    whole: float
    device: str

    @property
    def note(self) -> str:
        """Where the times are from, and what a pass takes while nobody times its layers."""
        whole = units.seconds(self.whole)
        return f"Medians on {self.device}, of each layer within a pass; a pass that nobody watches takes {whole}."


def times_of(report: Report, timed: Timed) -> Times:
    """The times of this network on this input. Raises InputError where there are none, or more than one."""
    found = [record for record in _records(timed) if record["network"] == report.network.name]
    where = f" in {timed}" if isinstance(timed, str | Path) else ""
    if not found:
        raise InputError(f"there are no times of {report.network.name}{where}")
    alike = [record for record in found if tuple(record["input"]) == tuple(report.input)]
    if not alike:
        given = " and ".join(units.shape(record["input"]) for record in found)
        raise InputError(
            f"the times of {report.network.name}{where} are for an input of {given}, not {units.shape(report.input)}"
        )
    if len(alike) > 1:
        raise InputError(f"there are {len(alike)} times of {report.network.name}{where}; give a file with one")
    record = alike[0]
    return Times(
        {layer["name"]: float(layer["median_s"]) for layer in record["layers"]},
        float(record["median_s"]),
        str(record["environment"]["device_name"]),
    )


def networks(timed: Timed) -> set[str]:
    """The networks that have times. Raises InputError."""
    return {record["network"] for record in _records(timed)}


def _records(timed: Timed) -> list[Any]:
    """Records of schema archcalc.time/1. Raises InputError."""
    if isinstance(timed, str | Path):
        return _read(Path(timed))
    several = timed if isinstance(timed, Sequence) else [timed]
    records = [one.to_dict() if hasattr(one, "to_dict") else one for one in several]
    _check(records, "these")
    return records


def _read(file: Path) -> list[Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    except ValueError:
        data = None
    records = data if isinstance(data, list) else [data]
    _check(records, str(file))
    return records


def _check(records: Sequence[Any], what: str) -> None:
    if not records or any(not isinstance(one, Mapping) or not _timed(one) for one in records):
        raise InputError(
            f"{what} is no result of `archcalc time`; write one with `archcalc time NET --layers --output FILE`"
        )


def _timed(record: Mapping[str, Any]) -> bool:
    known = {"network", "input", "environment", "median_s", "layers"} <= record.keys()
    return known and str(record.get("schema", "")).startswith("archcalc.time/")
