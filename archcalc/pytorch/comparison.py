"""Comparisons: one number of ours beside one of theirs, and the report of all comparisons of a network."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from archcalc import units
from archcalc.table import Cell, Column, Table

NOTED = 10
"""Mismatches of one comparison that the table shows; the record has them all."""

COLUMNS = (
    Column("subject", "left"),
    Column("what", "left"),
    Column("archcalc"),
    Column("theirs"),
    Column("difference explained", "left"),
    Column("remainder"),
    Column("layers equal"),
)


@dataclass(frozen=True)
class Comparison:
    """One number of ours and theirs: their difference by cause, and how many layers are equal."""

    subject: str
    what: str
    ours: int
    theirs: int | None = None  # None where it was skipped or failed
    causes: tuple[tuple[str, int], ...] = ()
    layers_compared: int = 0
    layers_equal: int = 0
    mismatches: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()  # operations that the tool counts as zero for want of a rule
    skipped: str = ""  # why, and what to install

    @property
    def remainder(self) -> int | None:
        """Theirs − ours that no cause explains."""
        return None if self.theirs is None else self.theirs - self.ours - sum(amount for _, amount in self.causes)

    @property
    def ok(self) -> bool:
        """Whether every layer is equal and nothing remains unexplained, or the comparison was skipped."""
        return bool(self.skipped) or (self.remainder == 0 and not self.mismatches)


@dataclass(frozen=True)
class CheckReport:
    """All comparisons of one network on one device."""

    network_name: str
    input: tuple[int, ...]
    given: str
    """The shapes of all inputs."""
    device: str
    environment: Mapping[str, object]
    comparisons: tuple[Comparison, ...]

    @property
    def ok(self) -> bool:
        """Whether no comparison failed."""
        return all(one.ok for one in self.comparisons)

    def table(self) -> Table:
        """One line for each comparison; mismatches, and what was skipped or has no rule, are notes."""
        rows: list[tuple[Cell, ...]] = []
        subject = ""
        for one in self.comparisons:
            causes = "; ".join(f"{name}: {units.count(amount)}" for name, amount in one.causes)
            equal = f"{one.layers_equal}/{one.layers_compared}" if one.layers_compared else None
            theirs = "skipped" if one.skipped else "failed" if one.theirs is None else one.theirs
            named = None if one.subject == subject else one.subject
            rows.append((named, one.what, one.ours, theirs, causes or None, one.remainder, equal))
            subject = one.subject
        title = f"{self.network_name} on {self.given}, {self.device}"
        return Table(title, COLUMNS, tuple(rows), notes=tuple(dict.fromkeys(self._notes())))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, schema archcalc.check/1."""
        return {
            "schema": "archcalc.check/1",
            "network": self.network_name,
            "input": list(self.input),
            "device": self.device,
            "environment": dict(self.environment),
            "ok": self.ok,
            "comparisons": [_record(one) for one in self.comparisons],
        }

    def _notes(self) -> Iterator[str]:
        for one in self.comparisons:
            if one.skipped:
                yield f"{one.what} skipped: {one.skipped}"
            if one.unsupported:
                yield f"{one.what}: no rule for, and so nothing for, {', '.join(one.unsupported)}"
            for message in one.mismatches[:NOTED]:
                yield f"{one.subject}, {one.what}: {message}"
            if len(one.mismatches) > NOTED:
                yield f"{one.subject}, {one.what}: and {len(one.mismatches) - NOTED} more"


def _record(comparison: Comparison) -> dict[str, Any]:
    plain = {field.name: getattr(comparison, field.name) for field in fields(comparison)}
    lists = {name: list(value) for name, value in plain.items() if isinstance(value, tuple)}
    derived = {"causes": dict(comparison.causes), "remainder": comparison.remainder, "ok": comparison.ok}
    return plain | lists | derived
