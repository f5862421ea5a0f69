"""Columns: a report as a table, by column names; folding by block, choosing rows, workings in the cells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from archcalc import units
from archcalc.analysis import Costs, Report, Row, Total
from archcalc.conventions import Convention, convention
from archcalc.errors import InputError
from archcalc.extents import Extent
from archcalc.names import some, unknown
from archcalc.table import Cell, Column, Table

DEFAULT = ("layer", "kind", "output", "activations", "params", "cost")


class Folded(Total):
    """The rows of one block as one line."""

    __slots__ = ("name",)

    rows: Sequence[Row]

    def __init__(self, name: str, rows: Sequence[Row]):
        super().__init__(rows)
        self.name = name


Line = Row | Folded


@dataclass(frozen=True)
class ReportColumn:
    """A column of a report: its header, what it says of a line, whether it can be summed."""

    header: str
    meaning: str
    cell: Callable[[Line], Cell]
    align: Literal["left", "right"] = "left"


def _last(line: Line) -> Row:
    return line.rows[-1] if isinstance(line, Folded) else line


def _first(line: Line) -> Row:
    return line.rows[0] if isinstance(line, Folded) else line


def _dims(extents: Sequence[Extent] | None) -> str | None:
    return None if extents is None else units.shape(extents)


TEXTS = {
    "layer": ReportColumn("layer", "name of the layer, or of the block that --depth folds", lambda line: line.name),
    "kind": ReportColumn(
        "kind",
        "kind of layer, as PyTorch names it",
        lambda line: f"{len(line.rows)} layer{'s' * (len(line.rows) > 1)}" if isinstance(line, Folded) else line.kind,
    ),
    "inputs": ReportColumn("inputs", "layers whose outputs flow in", lambda line: ", ".join(_first(line).node.inputs)),
    "input": ReportColumn(
        "input", "shapes of the inputs", lambda line: ", ".join(map(units.shape, _first(line).inputs))
    ),
    "output": ReportColumn("output", "shape of the output, N×C×H×W", lambda line: units.shape(_last(line).output)),
    "receptive_field": ReportColumn(
        "receptive field", "input pixels one output sees", lambda line: _dims(_last(line).receptive_field), "right"
    ),
    "jump": ReportColumn(
        "jump", "input pixels between neighbouring outputs", lambda line: _dims(_last(line).jump), "right"
    ),
}
"""Columns that describe a line."""

COUNTS: dict[str, tuple[str, str, Callable[[Costs], Extent]]] = {
    "activations": ("activations", "elements written, whole batch", lambda costs: costs.activations),
    "weights": ("weights", "elements of weight tensors", lambda costs: costs.weights),
    "biases": ("biases", "elements of bias tensors", lambda costs: costs.biases),
    "params": ("params", "weights and biases", lambda costs: costs.params),
    "buffers": ("buffers", "elements kept but not trained", lambda costs: costs.buffers),
    "frozen": ("frozen", "params that are not trained", lambda costs: costs.frozen),
    "macs": ("MACs", "multiply-accumulates", lambda costs: costs.macs),
}
"""Columns that count and are summed; besides these every operation of the ledger is one."""

OPERATIONS = {
    "bias_add": "bias additions",
    "add": "additions",
    "mul": "multiplications",
    "div": "divisions",
    "cmp": "comparisons",
    "sqrt": "square roots",
    "sin": "sines and cosines",
    "exp": "exponentials",
    "pow": "powers",
    "log": "logarithms",
    "tanh": "hyperbolic tangents",
    "erf": "error functions",
}


def names() -> dict[str, str]:
    """Every column name with its meaning."""
    meanings = {name: column.meaning for name, column in TEXTS.items()}
    meanings |= {name: meaning for name, (_, meaning, _) in COUNTS.items()}
    meanings |= {"cost": "the chosen convention's number (MACs by default)", "share": "part of the total cost"}
    return meanings | OPERATIONS


def header(name: str) -> str:
    """The header of a column; a name that is no column is its own header."""
    if name in TEXTS:
        return TEXTS[name].header
    return COUNTS[name][0] if name in COUNTS else OPERATIONS.get(name, name)


def tabulate(
    report: Report,
    columns: Sequence[str] = DEFAULT,
    *,
    working: bool = False,
    layers: str | None = None,
    depth: int | None = None,
    convention: str = "mac",
    all_rows: bool = False,
) -> Table:
    """A report as a table of the named columns.

    `working` fills cells with their arithmetic; `layers` keeps the rows whose names match a regular expression,
    and totals are theirs; `depth` folds rows by block; rows that are 0 in every counted column shown are left out,
    and said to be, unless `all_rows`. Raises UnknownNameError, InputError.
    """
    view = _View(report, columns, convention_named(convention), working=working)
    rows = matching(report, layers)
    lines = fold(rows, depth)
    shown = lines if all_rows or not view.counts else [line for line in lines if view.costs_something(line)]
    notes = _notes(report, rows, lines, shown)
    total = view.total(Total(rows), partial=any(not row.counted for row in rows)) if view.counts else None
    title = report.title
    return Table(title, view.headers, tuple(map(view.cells, shown)), total, notes)


convention_named = convention


class _View:
    """The columns of one table: headers and cells."""

    def __init__(self, report: Report, columns: Sequence[str], convention: Convention, *, working: bool):
        known = names()
        for name in columns:
            if name not in known:
                raise unknown("column", name, known)
            if columns.count(name) > 1:
                raise InputError(f"the column {name} is asked for more than once")
        if not columns:
            raise InputError(f"no columns; choose from {', '.join(known)}")
        self.report, self.columns, self.convention, self.working = report, columns, convention, working
        self.counts = ["cost" if name == "share" else name for name in columns if name not in TEXTS]

    @property
    def headers(self) -> tuple[Column, ...]:
        return tuple(self._header(name) for name in self.columns)

    def _header(self, name: str) -> Column:
        if name in TEXTS:
            return Column(TEXTS[name].header, TEXTS[name].align)
        if name == "cost":
            return Column(self.convention.header)
        if name == "share":
            return Column(f"share of {self.convention.header}")
        if name == "params" and self.convention.param_causes:
            return Column(f"{header(name)} ({self.convention.name})")
        return Column(header(name))

    def count(self, name: str, costs: Costs) -> Extent:
        """The number of a counted column."""
        if name == "cost" or (name == "params" and self.convention.param_causes):
            rows: Sequence[Row] = costs.rows if isinstance(costs, Total) else [costs]  # type: ignore[list-item, assignment]
            return sum(map(self.convention.count if name == "cost" else self.convention.count_params, rows))
        return COUNTS[name][2](costs) if name in COUNTS else costs.ledger.get(name, 0)

    def costs_something(self, line: Line) -> bool:
        return _uncounted(line) or any(not is_zero(self.count(name, line)) for name in self.counts)

    def cells(self, line: Line) -> tuple[Cell, ...]:
        equations: dict[str, Cell] = {}
        if self.working and isinstance(line, Row):
            equations = dict(line.working)
            if self.convention.name == "mac" and "macs" in equations:
                equations["cost"] = equations["macs"]
            if self.convention.param_causes:
                equations.pop("params", None)
        return tuple(self._cell(name, line, equations.get(name)) for name in self.columns)

    def _cell(self, name: str, line: Line, equation: Cell) -> Cell:
        if name in TEXTS:
            return TEXTS[name].cell(line)
        if name == "share":
            return self._share(self.count("cost", line))
        if _uncounted(line) and (name in ("cost", "macs") or name in OPERATIONS):
            return "uncounted"
        return self.count(name, line) if equation is None else equation

    def total(self, total: Total, *, partial: bool) -> tuple[Cell, ...]:
        label = "total, at least" if partial else "total"
        cells: list[Cell] = [
            None
            if name in TEXTS
            else self._share(self.count("cost", total))
            if name == "share"
            else self.count(name, total)
            for name in self.columns
        ]
        place = next((i for i, name in enumerate(self.columns) if name in TEXTS), None)
        if place is not None:
            cells[place] = label
        return tuple(cells)

    def _share(self, cost: Extent) -> Cell:
        whole = self.count("cost", self.report.total)
        if type(cost) is int and type(whole) is int:
            return units.percent(cost / whole) if whole else None
        return cost / whole


def is_zero(count: Extent) -> bool:
    """Whether a count is known to be 0, everywhere in a sweep."""
    return not count.any() if hasattr(count, "any") else bool(count == 0)


def _uncounted(line: Line) -> bool:
    return any(not row.counted for row in line.rows) if isinstance(line, Folded) else not line.counted


def matching(report: Report, layers: str | None) -> tuple[Row, ...]:
    """The rows whose names match a regular expression. Raises InputError where it is none or matches no row."""
    if layers is None:
        return report.rows
    try:
        pattern = re.compile(layers)
    except re.error as error:
        raise InputError(f"--layers {layers!r} is not a regular expression: {error}") from None
    rows = tuple(row for row in report.rows if pattern.search(row.name))
    if not rows:
        name = report.network.name
        raise InputError(f"no layer of {name} matches {layers!r}; see its layers with `archcalc show {name} --all`")
    return rows


def fold(rows: Sequence[Row], depth: int | None) -> list[Line]:
    """Rows, those of a block `depth` levels deep as one line. Raises InputError for a depth below 1."""
    if depth is None:
        return list(rows)
    if depth < 1:
        raise InputError(f"--depth is {depth}; it must be at least 1")
    groups: dict[tuple[str, ...] | str, list[Row]] = {}
    for row in rows:
        blocks = row.node.blocks
        groups.setdefault(blocks[:depth] if len(blocks) >= depth else row.name, []).append(row)
    return [group[0] if isinstance(key, str) else Folded(".".join(key), group) for key, group in groups.items()]


def _notes(report: Report, rows: Sequence[Row], lines: Sequence[Line], shown: Sequence[Line]) -> tuple[str, ...]:
    notes = []
    if len(rows) < len(report.rows):
        chosen, every = (sum(row.kind != "Input" for row in part) for part in (rows, report.rows))
        notes.append(f"{chosen} of {every} layers; the total is theirs.")
    if len(shown) < len(lines):
        kept = set(map(id, shown))
        kinds = Counter(_last(line).kind for line in lines if id(line) not in kept)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        notes.append(f"Left out, 0 in every column: {listed} (--all shows them).")
    shared = {row.name: held.counted_by for row in rows for held in row.node.held if held.counted_by}
    elsewhere = [f"{name} (by {other})" for name, other in shared.items() if name != other]
    if elsewhere:
        notes.append(f"Parameters that other rows count: {some(elsewhere)}.")
    if any(not row.counted for row in rows):
        listed = some([row.name for row in rows if not row.counted])
        notes.append(f"Uncounted, so that the total is a lower bound: {listed}.")
    return tuple(notes)
