"""Cog blocks about other counters: every cause; every counter on every network, as it was run and as predicted."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any

from _cog_results import RESULTS
from _cog_torchvision import traced

import archcalc as ac
from archcalc import units, zoo
from archcalc.analysis import Report
from archcalc.conventions import CONVENTIONS
from archcalc.table import Cell, Column, Table

__all__ = ["causes", "counter_facts", "counters_on_networks", "counters_summary"]


@cache
def recorded() -> dict[str, Any]:
    """What the counters said when benchmarks/counters.py was run."""
    found: dict[str, Any] = json.loads((RESULTS / "counters.json").read_text())
    return found


@cache
def report_of(network: str) -> Report:
    """The report of a network, traced as the counters met it, without data."""
    from archcalc.pytorch.build import build

    if network in zoo.ENTRIES:
        net = zoo.find(network).build()
        return ac.analyze(ac.trace(build(net, device="meta"), net.input_nodes[0].layer.output()))
    name = network.rpartition(".")[2]
    return traced(name, aux_logits=True) if name == "googlenet" else traced(name)


@cache
def explained() -> tuple[tuple[str, str, dict[str, Any]], ...]:
    """Network, tool and what it said, each predicted anew. Raises RuntimeError where a remainder is left."""
    told = [(network, *one) for network, said in recorded()["networks"].items() for one in said.items()]
    for network, tool, said in told:
        report, rule = report_of(network), CONVENTIONS[tool]
        if "number" not in said:
            continue
        predicted = sum(map(rule.count, report))
        params = sum(map(rule.count_params, report))
        if said["number"] != predicted or said["params"] not in (None, params):
            raise RuntimeError(f"{network}, {tool}: {said}, predicted {predicted} and {params} params")
    return tuple(told)


def counters_on_networks() -> None:
    """What each counter counts more than MACs on each network, in percent."""
    tools = [name for name in CONVENTIONS if name in recorded()["versions"]]
    cells: dict[str, dict[str, str]] = {}
    for network, tool, said in explained():
        macs = report_of(network).total.macs
        cells.setdefault(network, {})[tool] = _more(said, macs)
    rows = [(name, report_of(name).total.macs, *(told.get(tool, "") for tool in tools)) for name, told in cells.items()]
    columns = (Column("network", "left"), Column("MACs"), *map(Column, tools))
    print(Table("", columns, tuple(rows)).to_markdown(), end="")


def _more(said: dict[str, Any], macs: int) -> str:
    if "number" not in said:
        return "failed"
    return "=" if said["number"] == macs else f"{100 * (said['number'] - macs) / macs:+.2f} %"


def counters_summary() -> None:
    """For each counter: version, networks counted, networks on which it counts MACs, failures."""
    run: Counter[str] = Counter()
    same: Counter[str] = Counter()
    other_params: Counter[str] = Counter()
    failed: dict[str, list[str]] = {}
    changed: Counter[str] = Counter()
    for network, tool, said in explained():
        if "number" not in said:
            failed.setdefault(tool, []).append(network.rpartition(".")[2])
            continue
        total = report_of(network).total
        run[tool] += 1
        same[tool] += said["number"] == total.macs
        other_params[tool] += said["params"] not in (None, total.params)
        changed[tool] += bool(said["changed"])
    rows: list[tuple[Cell, ...]] = [
        (
            tool,
            recorded()["versions"][tool],
            run[tool],
            same[tool],
            other_params[tool],
            changed[tool],
            ", ".join(failed.get(tool, [])) or None,
        )
        for tool in CONVENTIONS
        if tool in recorded()["versions"]
    ]
    columns = (
        Column("counter", "left"),
        Column("version", "left"),
        Column("networks counted"),
        Column("counts just MACs on"),
        Column("other parameters on"),
        Column("leaves traces in"),
        Column("fails on", "left"),
    )
    print(Table("", columns, tuple(rows)).to_markdown(), end="")


def causes() -> None:
    """Every cause of every convention in words, and on how many of the networks it was met."""
    met: Counter[tuple[str, str]] = Counter()
    for network, tool, _ in explained():
        rule = CONVENTIONS[tool]
        for cause in (*rule.causes, *rule.param_causes):
            met[tool, cause.name] += any(cause.amount(row) for row in report_of(network))
    for rule in CONVENTIONS.values():
        every = (*rule.causes, *rule.param_causes)
        if not every:
            continue
        print(f"**{rule.name}** ({rule.source}): {rule.meaning}.\n")
        for cause in every:
            times = met[rule.name, cause.name]
            where = f" Met on {units.count(times)} of the networks below." if times else ""
            defect = " A defect." if cause.defect else ""
            print(f"- *{cause.name}*. {cause.because}{defect}{where}")
        print()


def counter_facts() -> None:
    """What each convention counts, its units and its source."""
    rows = [
        (
            f"`{rule.name}`",
            rule.header,
            rule.factor,
            rule.meaning,
            rule.params,
            rule.activations,
            rule.units,
            rule.source,
        )
        for rule in CONVENTIONS.values()
    ]
    heads = ("name", "column", "for each MAC", "what it counts", "parameters", "activations", "units", "source")
    columns = [Column(head, "right" if head == "for each MAC" else "left") for head in heads]
    print(Table("", tuple(columns), tuple(rows)).to_markdown(), end="")
