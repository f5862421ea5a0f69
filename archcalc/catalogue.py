"""The catalogue: the networks of the zoo with what they cost by default."""

from __future__ import annotations

from typing import Any

from archcalc import units, zoo
from archcalc.analysis import Report, analyze
from archcalc.table import Column, Table
from archcalc.zoo.registry import Entry


def catalogue() -> Table:
    """Every network with family, year, input, parameters, MACs and choices."""
    columns = (
        Column("network", "left"),
        Column("family", "left"),
        Column("year"),
        Column("input", "left"),
        Column("params"),
        Column("MACs"),
        Column("choices (--set)", "left"),
    )
    rows = tuple(
        (
            entry.name,
            entry.family,
            str(entry.year),
            units.shape(report.input[1:]),
            report.total.params,
            report.total.macs,
            ", ".join(f"{name}={_typed(value)}" for name, value in entry.choices.items()),
        )
        for entry, report in _reports()
    )
    return Table(f"{len(rows)} networks", columns, rows)


def catalogue_record() -> dict[str, Any]:
    """The catalogue as plain data."""
    return {
        "networks": [
            {
                "name": entry.name,
                "summary": entry.summary,
                "family": entry.family,
                "year": entry.year,
                "paper": entry.paper,
                "input": list(report.input),
                "params": report.total.params,
                "macs": report.total.macs,
                "choices": entry.choices,
            }
            for entry, report in _reports()
        ]
    }


def _reports() -> list[tuple[Entry, Report]]:
    return [(entry, analyze(entry.build())) for entry in zoo.ENTRIES.values()]


def _typed(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
