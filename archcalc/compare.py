"""Comparison of networks: their outputs and totals side by side, each against the first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from archcalc import units
from archcalc.analysis import Report, Row
from archcalc.conventions import Convention, convention
from archcalc.errors import InputError
from archcalc.extents import Extent, differ
from archcalc.names import some
from archcalc.records import plain
from archcalc.table import Cell, Column, Table

SCHEMA = "archcalc.compare/1"

OTHERS = "other layers"
"""Layers that stand for none of the first network's."""

Quantity = tuple[str, Callable[[Report], Extent]]


def compare(reports: Sequence[Report], convention_name: str = "mac") -> Table:
    """Networks side by side: the last columns are each one's ratio to the first, and what it saves in percent.

    A saving is blank where there is none: what grows says so by its ratio. What a network was rewritten by, such as
    "+width=0.5", names its columns where the first one is the network as it was.

    Raises InputError for fewer than two, UnknownNameError for a convention there is not.
    """
    _at_least_two(reports)
    columns = [Column("", "left"), *(Column(report.network.name) for report in reports)]
    first = reports[0].network.name
    for report in reports[1:]:
        name = report.network.name
        short = name.removeprefix(first) if name.startswith(f"{first}+") else name
        against = "" if len(reports) == 2 else f"{short} "
        columns += [Column(f"{against}ratio"), Column(f"{against}saving")]
    no_change = [None] * (len(columns) - len(reports) - 1)
    rows: list[tuple[Cell, ...]] = [
        ("input", *(report.given for report in reports), *no_change),
        ("output", *(units.shape(report.output) for report in reports), *no_change),
        ("layers", *map(_layers, reports), *no_change),
    ]
    for name, amount in _quantities(reports, convention(convention_name)):
        amounts = [amount(report) for report in reports]
        changes: list[Cell] = []
        for other in amounts[1:]:
            changes += _change(amounts[0], other)
        rows.append((name, *amounts, *changes))
    return Table(_title(reports), tuple(columns), tuple(rows), notes=_notes(reports))


def compare_layers(reports: Sequence[Report], convention_name: str = "mac") -> Table:
    """Costs of networks layer by layer, where they differ, each against the first.

    With a layer are compared those of its name and those inside it, as after a rewrite: conv1_1.depthwise. Raises
    InputError for fewer than two, UnknownNameError for a convention there is not.
    """
    _at_least_two(reports)
    rule = convention(convention_name)
    table = compare(reports, convention_name)
    costs = layer_costs(reports, rule)
    rows = []
    for name, amounts in costs.items():
        if any(differ(amounts[0], other) for other in amounts[1:]):
            changes = [cell for other in amounts[1:] for cell in _change(amounts[0], other)]
            rows.append((name, *amounts, *changes))
    left_out = len(costs) - len(rows)
    notes = (f"Left out, the same in all: {left_out} layers; the total has them.",) if left_out else ()
    columns = (Column(f"{rule.header} of layer", "left"), *table.columns[1:])
    return Table(table.title, columns, tuple(rows), ("total", *table.rows[-1][1:]), notes + table.notes)


def layer_costs(reports: Sequence[Report], rule: Convention) -> dict[str, tuple[Extent, ...]]:
    """What each layer of the first network costs, and what stands for it in the others; what stands for none apart."""
    names = [row.name for row in reports[0].rows if row.sources]
    costs: dict[str, list[Extent]] = {name: [0] * len(reports) for name in (*names, OTHERS)}
    for i, report in enumerate(reports):
        for row in report.rows:
            if row.sources:
                costs[_standing_for(row.name, costs)][i] += rule.count(row)
    return {name: tuple(amounts) for name, amounts in costs.items() if name != OTHERS or any(amounts)}


def _standing_for(name: str, costs: Collection[str]) -> str:
    """The layer of the first network that a name is that of, or lies in."""
    while name and name not in costs:
        name = name.rpartition(".")[0]
    return name or OTHERS


def _title(reports: Sequence[Report]) -> str:
    names = [report.network.name for report in reports]
    return f"{', '.join(names[:-1])} and {names[-1]}; ratio and saving against {names[0]}"


def _notes(reports: Sequence[Report]) -> tuple[str, ...]:
    return tuple(
        f"Uncounted in {report.network.name}, whose numbers are lower bounds: "
        f"{some([row.name for row in report.uncounted])}."
        for report in reports
        if report.uncounted
    )


def comparison_record(
    reports: Sequence[Report], convention_name: str = "mac", *, by_layer: bool = False
) -> dict[str, Any]:
    """The comparison as plain data; with `by_layer` also what each layer costs in one network after the other."""
    _at_least_two(reports)
    rule = convention(convention_name)
    return {
        "schema": SCHEMA,
        "convention": rule.name,
        "networks": [
            {
                "network": report.network.name,
                "input": plain(report.input),
                "output": plain(report.output),
                "layers": _layers(report),
                **{name: plain(amount(report)) for name, amount in _quantities(reports, rule)},
                "uncounted": [row.name for row in report.uncounted],
            }
            for report in reports
        ],
        **({"by_layer": plain(layer_costs(reports, rule))} if by_layer else {}),
    }


def _at_least_two(reports: Sequence[Report]) -> None:
    if len(reports) < 2:
        raise InputError("a comparison takes two networks or more")


def _layers(report: Report) -> int:
    return sum(row.kind != "Input" for row in report.rows)


def _quantities(reports: Sequence[Report], rule: Convention) -> list[Quantity]:
    """What is compared: totals, and the cost of each kind of layer that has any in one of the networks."""
    kinds = dict.fromkeys(row.kind for report in reports for row in report.rows if _costly(row, rule))
    totals: list[Quantity] = [
        ("activations", lambda report: report.total.activations),
        ("weights", lambda report: report.total.weights),
        ("biases", lambda report: report.total.biases),
        ("params", lambda report: report.total.params),
    ]
    by_kind: list[Quantity] = [(f"{rule.header} of {kind}", partial(_cost, rule, kind)) for kind in kinds]
    return [*totals, *by_kind, (rule.header, lambda report: sum(map(rule.count, report.rows)))]


def _costly(row: Row, rule: Convention) -> bool:
    cost = rule.count(row)
    return type(cost) is not int or cost != 0


def _cost(rule: Convention, kind: str, report: Report) -> Extent:
    return sum(rule.count(row) for row in report.rows if row.kind == kind)


def _change(before: Extent, after: Extent) -> tuple[Cell, Cell]:
    """Ratio and saving where their quotient is a number, of closed forms too; nothing to say of a ratio to 0."""
    sweep = hasattr(before, "any") or hasattr(after, "any")
    if sweep or (type(before) is int and not before):
        return None, None
    quotient = after / before
    if not (type(quotient) is float or getattr(quotient, "is_number", False)):
        return None, None
    ratio = float(quotient)
    return units.ratio(ratio), units.percent(1 - ratio) if ratio <= 1 else None
