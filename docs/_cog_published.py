"""Cog blocks about published figures: of a page, of all pages, the errata, the verdicts, a table against itself."""

from __future__ import annotations

from fractions import Fraction

import archcalc as ac
from archcalc import units, zoo
from archcalc.printed import read
from archcalc.table import Column, Table
from archcalc.verdicts import KINDS, Judged, Published
from archcalc.zoo.figures.googlenets import MODULES, K

__all__ = ["errata", "every_figure", "filters_against_columns", "published", "verdicts"]


def published(target: str, *sources: str) -> None:
    """Figures of a family or an entry from sources with one of these words; below, the arithmetic of errata."""
    every = ac.published(target).figures
    chosen = [one for one in every if not sources or any(source in one.figure.source for source in sources)]
    whole = Published(tuple(chosen)).table()
    print(Table("", whole.columns, whole.rows, notes=whole.notes).to_markdown(), end="")


def verdicts() -> None:
    """How many figures have each verdict, with one as an example."""
    every = ac.published()
    rows = []
    for kind in KINDS:
        first = next((one for one in every.figures if one.kind == kind), None)
        example = (
            f"{first.figure.printed} for {units.count(first.ours)}" if first and isinstance(first.ours, int) else None
        )
        rows.append((kind, every.counts[kind], example))
    columns = (Column("verdict", "left"), Column("figures"), Column("such as", "left"))
    print(Table("", columns, tuple(rows), total=("", len(every.figures), None)).to_markdown(), end="")


def errata() -> None:
    """Every erratum, with the computation that explains it."""
    for one in ac.published().figures:
        if one.kind == "erratum":
            print(f"- {one.explanation}")


def filters_against_columns() -> None:
    """Table 1 of GoogLeNet: its columns, what its filters give, and what its parameters would cost."""
    columns = (
        *(Column("module", "left"), Column("parameters"), Column("by the filters"), Column("operations")),
        *(Column("by the filters"), Column("by the printed parameters"), Column("the printed pair", "left")),
    )
    rows = []
    for name, module in MODULES.items():
        weights, macs = module.weights().value, module.macs().value
        params = read(module.params, K, whole=True)
        implied = params.value * macs / weights
        agrees = read(module.operations, whole=True).match(Fraction(implied))
        rows.append(
            (
                *(name, module.params, f"{weights / K:.4g}K", module.operations),
                *(f"{macs / 10**6:.4g}M", f"{float(implied) / 10**6:.4g}M", "agrees" if agrees else "does not agree"),
            )
        )
    print(Table("", columns, tuple(rows)).to_markdown(), end="")


def every_figure() -> None:
    """All figures, a table a family."""
    families: dict[str, list[Judged]] = {}
    for one in ac.published().figures:
        families.setdefault(zoo.ENTRIES[one.figure.network].family, []).append(one)
    for i, (family, chosen) in enumerate(families.items()):
        whole = Published(tuple(chosen)).table()
        print(f"{chr(10) if i else ''}### {family}\n")
        print(Table("", whole.columns, whole.rows).to_markdown(), end="")
