"""Records: a report as plain data for JSON, schema `archcalc.report/1` (fields may be added, none renamed)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archcalc import units
from archcalc.analysis import Costs, Report, Row, Total
from archcalc.columns import matching
from archcalc.conventions import convention as convention_named
from archcalc.explain import sections
from archcalc.extents import Extent
from archcalc.layers.operation import Unused

SCHEMA = "archcalc.report/1"
EXPLAIN_SCHEMA = "archcalc.explain/1"


def report_record(report: Report, convention: str = "mac", layers: str | None = None) -> dict[str, Any]:
    """Every row, or those whose names match, with every number and working, and their totals.

    Raises UnknownNameError for the convention, InputError for the regular expression.
    """
    rule = convention_named(convention)
    rows = matching(report, layers)
    return {
        "schema": SCHEMA,
        "network": report.network.name,
        "input": plain(report.input),
        "convention": rule.name,
        "layers": [_row(report, row) | {"cost": plain(rule.count(row))} for row in rows],
        "total": _costs(Total(rows)) | {"cost": plain(sum(map(rule.count, rows)))},
        "uncounted": [row.name for row in rows if not row.counted],
    }


def explanation_record(report: Report, layer: str | None = None) -> dict[str, Any]:
    """The calculations as plain data. Raises UnknownNameError."""
    return {
        "schema": EXPLAIN_SCHEMA,
        "network": report.network.name,
        "input": plain(report.input),
        "layers": [
            {
                "name": section.name,
                "working": {
                    name: {"numbers": equation.text()}
                    | ({"letters": equation.letters()} if section.name != "total" else {})
                    | {"latex": equation.latex()}
                    for name, equation in section.equations.items()
                },
            }
            for section in sections(report, layer)
        ],
    }


def _row(report: Report, row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "kind": row.kind,
        "inputs": list(row.node.inputs),
        "output": plain(row.output),
        **_costs(row),
        "receptive_field": plain(row.receptive_field),
        "jump": plain(row.jump),
        "counted": row.counted,
        "used": not isinstance(row.node.layer, Unused),
        "shared": {held.name: held.counted_by for held in row.node.held if held.counted_by},
        "working": {name: equation.text() for name, equation in row.working.items()},
    }


def _costs(costs: Costs) -> dict[str, Any]:
    return {
        "activations": plain(costs.activations),
        "weights": plain(costs.weights),
        "biases": plain(costs.biases),
        "params": plain(costs.params),
        "buffers": plain(costs.buffers),
        "frozen": plain(costs.frozen),
        "macs": plain(costs.macs),
        "ledger": plain(costs.ledger),
    }


def plain(value: Extent) -> Any:
    """A number, or several, as JSON knows them: sweeps become lists, closed forms become text."""
    if value is None or type(value) is int:
        return value
    if isinstance(value, Mapping):
        return {name: plain(amount) for name, amount in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    whole = units.exact(value)
    return units.count(value) if whole is None else whole
