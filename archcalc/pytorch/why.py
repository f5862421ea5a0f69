"""Why: what other counters say of a module, and every difference from our count itemised by cause, to the last unit.

The module is traced, so that each of its operations is a row; a convention says what its tool makes of each row; then
the tool is run. What no cause explains is the remainder, which is 0 unless a convention is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from archcalc import units
from archcalc.analysis import Report, analyze
from archcalc.conventions import Cause, Convention, convention
from archcalc.errors import CheckError, MissingPackageError
from archcalc.names import some
from archcalc.pytorch.build import build, whole_shape
from archcalc.pytorch.counters import COUNTERS, Counted, counter
from archcalc.pytorch.counters.base import Arguments
from archcalc.pytorch.load import own_dtype, to_run
from archcalc.pytorch.observe import materialize
from archcalc.pytorch.trace import trace
from archcalc.table import Cell, Column, Table
from archcalc.targets import Argument, Target


@dataclass(frozen=True)
class Item:
    """One cause of a difference: how much it adds altogether, and on which rows."""

    cause: Cause
    amount: int
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Account:
    """What one tool says of a module beside what its convention predicts; `theirs` is None where it failed."""

    convention: Convention
    macs: int
    params: int
    items: tuple[Item, ...]
    param_items: tuple[Item, ...]
    counted: Counted | None = None
    failed: str = ""

    @property
    def tool(self) -> str:
        """The convention's name."""
        return self.convention.name

    @property
    def ours(self) -> int:
        """Our MACs on the scale of the tool."""
        return self.convention.factor * self.macs

    @property
    def predicted(self) -> int:
        """What the tool must say."""
        return self.ours + sum(item.amount for item in self.items)

    @property
    def remainder(self) -> int | None:
        """What the tool says more than predicted."""
        return None if self.counted is None else self.counted.total - self.predicted

    @property
    def params_remainder(self) -> int | None:
        """The parameters that the tool says more than predicted; None where it counts none."""
        if self.counted is None or self.counted.params is None:
            return None
        return self.counted.params - self.params - sum(item.amount for item in self.param_items)

    @property
    def ok(self) -> bool:
        """Whether nothing is left unexplained."""
        return self.counted is not None and self.remainder == 0 and not self.params_remainder


@dataclass(frozen=True)
class Why:
    """What the counters say of one module, each explained."""

    network: str
    inputs: tuple[tuple[int, ...], ...]
    macs: int
    params: int
    accounts: tuple[Account, ...]
    uncounted: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether a tool ran, and every one that did is explained to the last unit."""
        ran = [one for one in self.accounts if one.counted is not None]
        return bool(ran) and all(one.ok for one in ran)

    def table(self) -> Table:
        """A line for each tool with its number, and below it one for each cause of its difference from ours."""
        lines: list[tuple[Cell, ...]] = []
        for one in self.accounts:
            if one.counted is None:
                lines.append((one.convention.header, "failed", None, None, None))
                continue
            theirs, params = one.counted.total, one.counted.params
            lines += _told(one.convention.header, theirs, one.ours, one.items, one.remainder)
            if params is not None and (one.param_items or params != one.params):
                lines += _told(f"params ({one.tool})", params, one.params, one.param_items, one.params_remainder)
        columns = (
            Column("counted by, and why", "left"),
            Column("number"),
            Column("beyond ours"),
            Column("remainder"),
            Column("in", "left"),
        )
        own = f"{units.count(self.macs)} MACs, {units.count(self.params)} params by archcalc"
        return Table(f"{self._title}: {own}", columns, tuple(lines), notes=tuple(self._notes()))

    def between(self, first: str, second: str) -> Table:
        """What makes the second tool's number differ from the first's, cause by cause."""
        a, b = (next(one for one in self.accounts if one.tool == name) for name in (first, second))
        counted = "MACs, as archcalc counts them" if a.ours == b.ours else "operations counted for each MAC"
        lines: list[tuple[Cell, ...]] = [(counted, a.ours, b.ours, b.ours - a.ours, None)]
        for name, one, other, rows in _paired(a.items, b.items):
            lines.append((name, one, other, other - one, _named(rows)))
        if a.remainder or b.remainder:
            lines.append(("not explained", a.remainder, b.remainder, (b.remainder or 0) - (a.remainder or 0), None))
        columns = (
            Column("because of", "left"),
            Column(first),
            Column(second),
            Column(f"{second} more than {first}"),
            Column("in", "left"),
        )
        theirs = [one.counted.total if one.counted else None for one in (a, b)]
        total = None if None in theirs else ("total", *theirs, theirs[1] - theirs[0], None)  # type: ignore[operator]
        return Table(f"{self._title}: {first} and {second}", columns, tuple(lines), total, tuple(self._notes()))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, schema archcalc.why/1."""
        return {
            "schema": "archcalc.why/1",
            "network": self.network,
            "inputs": [list(shape) for shape in self.inputs],
            "macs": self.macs,
            "params": self.params,
            "uncounted": list(self.uncounted),
            "ok": self.ok,
            "counters": [_record(one) for one in self.accounts],
        }

    @property
    def _title(self) -> str:
        return f"{self.network} on {' and '.join(map(units.shape, self.inputs))}"

    def _notes(self) -> Iterator[str]:
        agree = [one.tool for one in self.accounts if one.counted and one.counted.params == self.params]
        if agree:
            yield f"As many parameters as archcalc: {', '.join(agree)}."
        explained: dict[str, list[str]] = {}
        for one in self.accounts:
            if one.counted is None:
                continue
            for cause in dict.fromkeys(item.cause for item in (*one.items, *one.param_items)):
                if cause.because:
                    defect = " This is a defect of the tool." if cause.defect else ""
                    explained.setdefault(f'"{cause.name}": {cause.because}{defect}', []).append(one.tool)
        yield from (f"{', '.join(tools)}, {cause}" for cause, tools in explained.items())
        for one in self.accounts:
            if one.failed:
                yield f"{one.tool} failed: {one.failed}"
            elif one.counted and one.counted.unsupported:
                yield f"{one.tool} says it has no rule for {', '.join(one.counted.unsupported)}."
            if one.counted and one.counted.changed:
                yield f"{one.tool} leaves in the module it counts (here a copy): {', '.join(one.counted.changed)}."
        if not any(one.counted for one in self.accounts):
            yield "No counter could count this module: nothing is explained."
        if self.uncounted:
            yield f"archcalc has no rule for {some(self.uncounted)}."


def why(
    module: nn.Module,
    inputs: Any,
    tools: Iterable[str] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    name: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Why:
    """What each tool (by default every one installed) counts in a module, and why it differs from our MACs.

    `inputs` are the tensors of a call. The module is traced and run in eval mode, on copies. Raises TraceError,
    UnknownNameError, MissingPackageError.
    """
    args: Arguments = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    chosen = [counter(tool) for tool in tools] if tools else [one for one in COUNTERS.values() if one.version]
    say = progress or _silent
    say("tracing")
    report = analyze(trace(module, args, name=name, **dict(kwargs or {})))
    accounts = []
    for one in chosen:
        say(one.name)
        rule = convention(one.name)
        items, param_items = _itemised(rule.causes, report), _itemised(rule.param_causes, report)
        counted, failed = None, ""
        try:
            counted = one(module, args, kwargs)
        except MissingPackageError:
            raise
        except CheckError as error:
            failed = str(error)
        total = report.total
        accounts.append(Account(rule, total.macs, total.params, items, param_items, counted, failed))
    entries = tuple(node.layer.output() for node in report.network.input_nodes)
    blind = tuple(row.name for row in report.uncounted)
    return Why(report.network.name, entries, report.total.macs, report.total.params, tuple(accounts), blind)


def why_target(
    target: Target, tools: Iterable[str] | None = None, *, progress: Callable[[str], None] | None = None
) -> Why:
    """What each tool counts in the real module of a target, on the CPU: torchvision's, the target's own, or one built.

    Raises CheckError where the module does not cost what the target's report says, and as `why` does.
    """
    say, device, network = progress or _silent, torch.device("cpu"), target.network
    say(f"{network.name}: making the module")
    module: nn.Module
    if target.make is not None:
        module = target.make().eval()
    else:
        module = materialize(build(network, whole_shape(network, target.shape), device="meta"), device)
    args, kwargs = to_run(_whole(target), device, own_dtype(module))
    found = why(module, args, tools, kwargs=kwargs, name=network.name, progress=progress)
    total = target.report().total
    if target.make is None and (found.macs, found.params) != (total.macs, total.params):
        raise CheckError(
            f"{network.name}: the real module has {found.macs} MACs and {found.params} params, "
            f"the network {total.macs} and {total.params}"
        )
    return found


def _whole(target: Target) -> tuple[Argument, ...]:
    """The target's arguments. Raises InputError where an extent is no whole number."""
    for argument in target.arguments:
        whole_shape(target.network, argument.shape)
    return target.arguments


def _told(
    header: str, theirs: int, ours: int, items: Sequence[Item], remainder: int | None
) -> Iterator[tuple[Cell, ...]]:
    """Lines of one number: by how much it differs from ours; below, the causes that add up to the difference."""
    yield (header, theirs, theirs - ours, remainder, None)
    for item in items:
        yield (f"· {item.cause.name}", None, item.amount, None, _named(item.rows))


def _paired(first: Sequence[Item], second: Sequence[Item]) -> Iterator[tuple[str, int, int, tuple[str, ...]]]:
    """Causes of two tools, with what each adds in either and the layers.

    Two that only one tool has each, on the same layers, are one line: "batch norm, by element" and "normalisation, 2 an
    element" are "batch norm / normalisation".
    """
    left = {item.cause.name: item for item in second}
    names = {item.cause.name for item in first}
    alike = {item.rows: name for name, item in left.items() if name not in names}
    for item in first:
        name = item.cause.name
        other = left.pop(name if name in left else alike.pop(item.rows, ""), None)
        if other is None:
            yield name, item.amount, 0, item.rows
            continue
        topics = dict.fromkeys(one.cause.name.partition(", ")[0] for one in (item, other))
        rows = tuple(dict.fromkeys((*item.rows, *other.rows)))
        yield name if name == other.cause.name else " / ".join(topics), item.amount, other.amount, rows
    for item in left.values():
        yield item.cause.name, 0, item.amount, item.rows


def _named(rows: Sequence[str]) -> str | None:
    """The layers a cause is found in: all of two, else the first and how many more."""
    if len(rows) <= 2:
        return ", ".join(rows) or None
    return f"{rows[0]} and {len(rows) - 1} more"


def _record(account: Account) -> dict[str, Any]:
    counted = account.counted
    return {
        "name": account.tool,
        "version": counted and counted.version,
        "number": counted and counted.total,
        "ours": account.ours,
        "causes": [_item_record(item) for item in account.items],
        "remainder": account.remainder,
        "params": counted and counted.params,
        "params_causes": [_item_record(item) for item in account.param_items],
        "params_remainder": account.params_remainder,
        "unsupported": list(counted.unsupported) if counted else [],
        "changed": list(counted.changed) if counted else [],
        "failed": account.failed or None,
    }


def _item_record(item: Item) -> dict[str, Any]:
    cause = item.cause
    return {
        "name": cause.name,
        "because": cause.because,
        "defect": cause.defect,
        "amount": item.amount,
        "layers": list(item.rows),
    }


def _itemised(causes: Sequence[Cause], report: Report) -> tuple[Item, ...]:
    items = []
    for cause in causes:
        amounts = [(row, cause.amount(row)) for row in report.rows]
        rows = tuple(row.name for row, amount in amounts if amount)
        if rows:
            items.append(Item(cause, sum(amount for _, amount in amounts), rows))
    return tuple(items)


def _silent(_: str) -> None:
    """No progress is shown."""
