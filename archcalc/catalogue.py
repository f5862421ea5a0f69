"""The catalogue: the networks of the zoo with what they cost by default."""

from __future__ import annotations

from typing import Any

from archcalc import units, zoo
from archcalc.analysis import Report, analyze
from archcalc.table import Column, Table
from archcalc.zoo.registry import Entry


def catalogue() -> Table:
    """Every network with its family, paper, input, parameters and MACs; below them the choices of each."""
    named = [Column(name, "left") for name in ("network", "family", "paper")]
    columns = (*named, Column("year"), Column("input", "left"), Column("params"), Column("MACs"))
    rows = []
    alike: dict[str, list[str]] = {}
    for entry, report in _reports():
        total = report.total
        words = (entry.name, entry.family, citation(entry.paper))
        rows.append((*words, str(entry.year), units.shape(report.input[1:]), total.params, total.macs))
        choices = ", ".join(f"{name}={typed(value)}" for name, value in entry.choices.items())
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


def citation(paper: str) -> str:
    """The authors of a paper, "et al." for three or more.

    >>> citation("Krizhevsky, Sutskever & Hinton, ImageNet Classification with Deep Convolutional Neural Networks")
    'Krizhevsky et al.'
    """
    first, *more = paper.partition(" & ")[0].split(", ")
    if " & " not in paper:
        return first
    return f"{first} et al." if more else f"{first} & {paper.partition(' & ')[2].partition(',')[0]}"


def _reports() -> list[tuple[Entry, Report]]:
    return [(entry, analyze(entry.build())) for entry in zoo.ENTRIES.values()]


def typed(value: object) -> str:
    """A choice's value as it is typed on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)
