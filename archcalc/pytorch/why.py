"""Why: what other counters say of a module, and every difference from our count itemised by cause, to the last unit.

The module is traced, so that each of its operations is a row; a convention says what its tool makes of each row; then
the tool is run. What no cause explains is the remainder, which is 0 unless a convention is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from archcalc.analysis import Report, analyze
from archcalc.conventions import Cause, Convention, convention
from archcalc.errors import CheckError, MissingPackageError
from archcalc.pytorch.counters import COUNTERS, Counted, counter
from archcalc.pytorch.counters.base import Arguments
from archcalc.pytorch.trace import trace


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
    input: tuple[tuple[int, ...], ...]
    macs: int
    params: int
    accounts: tuple[Account, ...]
    uncounted: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every tool that ran is explained to the last unit."""
        return all(one.ok for one in self.accounts if one.counted is not None)


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
