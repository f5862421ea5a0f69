"""The catalogue: the networks of the zoo with what they cost by default."""

from __future__ import annotations

from typing import Any

from archcalc import units, zoo
from archcalc.analysis import Report, analyze
from archcalc.table import Column, Table
from archcalc.zoo.registry import Entry


def catalogue() -> Table:
    """Every network with year, input, parameters and MACs; below them the choices that each family has."""
    columns = (Column("network", "left"), Column("year"), Column("input", "left"), Column("params"), Column("MACs"))
    rows = []
    alike: dict[str, list[str]] = {}
    for entry, report in _reports():
        total = report.total
        rows.append((entry.name, str(entry.year), units.shape(report.input[1:]), total.params, total.macs))
        choices = ", ".join(f"{name}={_typed(value)}" for name, value in entry.choices.items())
        alike.setdefault(choices, []).append(entry.name)
    notes = tuple(f"{', '.join(names)}: {choices}" for choices, names in alike.items())
    return Table(
        f"{len(rows)} networks; below, what --set can choose of each, with the defaults",
        columns,
        tuple(rows),
        notes=notes,
    )


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
