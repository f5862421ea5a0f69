"""Verdicts: published figures beside archcalc's, and what each printed number is of ours.

A printed number is `exact`, or ours `rounds to it` or `truncates to it`, or it is an `erratum` whose explanation is a
computation: a cause must give the printed number, a conflict must give ours from other numbers as they are printed.
Everything else is `unexplained`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeAlias

from archcalc import printed, units, zoo
from archcalc.names import unknown
from archcalc.table import Cell, Column, Table
from archcalc.working import Equation, Worked
from archcalc.zoo.figures import Cause, Figure, Value, figures, plain, report
from archcalc.zoo.registry import FAMILIES

SCHEMA = "archcalc.published/1"

Kind: TypeAlias = printed.Kind | Literal["erratum", "unexplained"]
KINDS: tuple[Kind, ...] = ("exact", "rounds to it", "truncates to it", "erratum", "unexplained")


@dataclass(frozen=True)
class Judged:
    """A figure with our value of the same quantity, and what the printed number is of it."""

    figure: Figure
    ours: Value
    kind: Kind
    digits: int = 0
    reason: str = ""
    explanation: str = ""

    @property
    def short(self) -> str:
        """The verdict without the reason of an erratum."""
        return f"{self.kind} ({self.digits} digit{'s' * (self.digits > 1)})" if self.digits else self.kind

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        return f"{self.short}: {self.reason}" if self.reason else self.short

    @property
    def network(self) -> str:
        """The entry and the choices that the figure is about, as `alexnet, towers=1`."""
        shown = [f"{name}={typed(value)}" for name, value in self.figure.choices.items()]
        return ", ".join([self.figure.network, *shown])


@dataclass(frozen=True)
class Published:
    """Published figures, judged."""

    figures: tuple[Judged, ...]

    @property
    def unexplained(self) -> tuple[Judged, ...]:
        """Figures that differ from ours for no reason known here."""
        return tuple(one for one in self.figures if one.kind == "unexplained")

    @property
    def counts(self) -> dict[Kind, int]:
        """How many figures have each kind of verdict."""
        found = Counter(one.kind for one in self.figures)
        return {kind: found[kind] for kind in KINDS}

    def table(self) -> Table:
        """Printed beside ours, a row for each figure with all that is known of it; below, the arithmetic of errata."""
        columns = (Column("network", "left"), *_COLUMNS, Column("convention", "left"), Column("source", "left"))
        rows = tuple((one.network, *_cells(one), one.figure.convention, one.figure.source) for one in self.figures)
        return Table(self._title, columns, rows, notes=self._explanations)

    def by_network(self) -> tuple[Table, ...]:
        """A narrow table for each network, below it sources and errata; of several networks a last one counts verdicts.

        >>> [table.title for table in published("overfeat").by_network()]
        ['overfeat: 2 published figures beside ours: 2 rounds to it']
        """
        groups: dict[str, list[Judged]] = {}
        for one in self.figures:
            groups.setdefault(one.network, []).append(one)
        tables = tuple(Published(tuple(group))._of_one_network(name) for name, group in groups.items())
        return tables if len(tables) == 1 else (*tables, self.verdicts())

    def verdicts(self) -> Table:
        """How many figures have each verdict."""
        rows = tuple((kind, count) for kind, count in self.counts.items() if count)
        columns = (Column("verdict", "left"), Column("figures"))
        return Table("", columns, rows, total=("total", len(self.figures)))

    def _of_one_network(self, name: str) -> Table:
        sources = {(one.figure.source, one.figure.convention): None for one in self.figures}
        numbers = {source: number for number, source in enumerate(sources, 1)}
        rows = tuple(
            (*_cells(one)[:-1], one.short, f"[{numbers[one.figure.source, one.figure.convention]}]")
            for one in self.figures
        )
        said = (f"[{number}] {source}: {convention}" for (source, convention), number in numbers.items())
        columns = (*_COLUMNS, Column("from", "left"))
        return Table(f"{name}: {self._title}", columns, rows, notes=(*said, *self._explanations))

    @property
    def _title(self) -> str:
        said = ", ".join(f"{count} {kind}" for kind, count in self.counts.items() if count)
        return f"{len(self.figures)} published figure{'s' * (len(self.figures) > 1)} beside ours: {said}"

    @property
    def _explanations(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.explanation for one in self.figures if one.explanation))

    def record(self) -> dict[str, Any]:
        """The figures as plain data, schema `archcalc.published/1`."""
        return {"schema": SCHEMA, "counts": self.counts, "figures": [_record(one) for one in self.figures]}

    def __str__(self) -> str:
        return "\n".join(table.to_terminal() for table in self.by_network())


_COLUMNS = (Column("quantity", "left"), Column("printed"), Column("ours"), Column("verdict", "left"))


def _cells(one: Judged) -> tuple[Cell, ...]:
    return one.figure.quantity, one.figure.printed, _cell(one.figure, one.ours), one.verdict


def published(target: str | None = None) -> Published:
    """Published figures of a network of the zoo, of a family ("resnet-for-cifar"), or of all, grouped by network.

    Raises UnknownNameError.

    >>> published("vgg19").unexplained
    ()
    """
    networks: dict[tuple[str, str], list[Figure]] = {}
    for figure in (one for module in FAMILIES for one in figures(module)):
        networks.setdefault((figure.network, str(figure.choices)), []).append(figure)
    every = [figure for group in networks.values() for figure in group]
    if target is None:
        return Published(tuple(map(judge, every)))
    found: dict[str, list[Figure]] = {}
    for figure in every:
        for name in {_spelled(zoo.ENTRIES[figure.network].family), figure.network}:
            found.setdefault(name, []).append(figure)
    if _spelled(target) not in found:
        raise unknown("network or family with published figures", target, sorted(found))
    return Published(tuple(map(judge, found[_spelled(target)])))


def _spelled(name: str) -> str:
    """A name as it is typed: small letters, hyphens."""
    return name.lower().replace(" ", "-").replace("_", "-")


def judge(figure: Figure) -> Judged:
    """Compute our value of a figure, and what the printed number is of it."""
    network = report(figure.network, figure.input, **figure.choices)
    ours = figure.amount(network)
    found = _match(figure, ours)
    if found:
        return Judged(figure, ours, found.kind, found.digits)
    says = f"{figure.network}, {figure.quantity} ({figure.source}): printed {figure.printed}"
    erratum = figure.erratum
    if erratum is None:
        return Judged(figure, ours, "unexplained", explanation=f"{says}, ours {_text(figure, ours)}.")
    if isinstance(erratum, Cause):
        computed = erratum.amount(network)
        reason, holds = erratum.reason, _match(figure, computed) is not None
        explanation = f"{says}; {reason}: {_text(figure, computed)}; right is {_text(figure, ours)}."
    else:
        computed = erratum.amount()
        reason, holds = f"contradicts {erratum.against}", plain(computed) == plain(ours)
        explanation = f"{says}; by {erratum.against}: {_text(figure, computed)}."
    if holds:
        return Judged(figure, ours, "erratum", reason=reason, explanation=explanation)
    wrong = f"{says}, ours {_text(figure, ours)}; the reason given, {reason}, makes {_text(figure, computed)}."
    return Judged(figure, ours, "unexplained", explanation=wrong)


def _match(figure: Figure, value: Value) -> printed.Match | None:
    bare = plain(value)
    if isinstance(bare, tuple):
        return printed.Match("exact") if printed.read_several(figure.printed) == bare else None
    return printed.read(figure.printed, figure.kilo, whole=figure.whole).match(Fraction(bare))


def _cell(figure: Figure, value: Value) -> Cell:
    """How a value is shown: whole numbers in full, ratios to a few digits, shapes and lists as they are printed."""
    bare = plain(value)
    if isinstance(bare, tuple):
        return ("×" if "×" in figure.printed else ", ").join(map(str, bare))
    if figure.printed.endswith("%"):
        return f"{float(100 * bare):.4g}%"
    return bare.numerator if bare.denominator == 1 else float(bare)


def _text(figure: Figure, value: Value) -> str:
    """A value with its arithmetic, where it has any; thousands that are not 1,000 set apart."""
    bare = plain(value)
    shown = _cell(figure, value)
    said = (
        Equation(value).text() if isinstance(value, Worked) else shown if isinstance(shown, str) else units.count(shown)
    )
    if figure.kilo == 1000 or isinstance(bare, tuple):
        return said
    unit, written = (figure.kilo**2, "²") if figure.printed.endswith("MB") else (figure.kilo, "")
    return f"{said} = {units.count(figure.kilo)}{written}·{float(Fraction(bare) / unit):.6g}"


def typed(value: object) -> str:
    """A choice as it is typed after --set."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _record(one: Judged) -> dict[str, Any]:
    figure, bare = one.figure, plain(one.ours)
    return {
        "network": figure.network,
        "choices": dict(figure.choices),
        "input": list(report(figure.network, figure.input, **figure.choices).input),
        "quantity": figure.quantity,
        "printed": figure.printed,
        "ours": list(bare) if isinstance(bare, tuple) else bare.numerator if bare.denominator == 1 else float(bare),
        "verdict": one.kind,
        "digits": one.digits or None,
        "reason": one.reason or None,
        "explanation": one.explanation or None,
        "convention": figure.convention,
        "source": figure.source,
    }
