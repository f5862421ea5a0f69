"""What a network holds in memory, written down: tables of layers and of the parts of the total, and a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archcalc import units
from archcalc.attended import attended, is_fusible
from archcalc.backward import graded
from archcalc.footprint import COUNTER, STATES, LayerMemory, Memory
from archcalc.names import some
from archcalc.table import Cell, Column, Table

SCHEMA = "archcalc.memory/1"

MIXED = (
    "mixed: float32 parameters under torch.autocast; convolutions and matrix products compute in 16 bits, with 16-bit "
    "copies of their weights."
)


@dataclass(frozen=True, slots=True)
class Bytes:
    """A cell of bytes: MB of 10^6 to people, a whole number in CSV."""

    count: int
    binary: bool = False

    def __index__(self) -> int:
        return self.count

    def text(self) -> str:
        """In MB, or MiB of 2^20."""
        return units.mib(self.count) if self.binary else units.mb(self.count)

    def latex(self) -> str:
        """The same for between dollar signs."""
        return units.latex(self.text()).replace(" ", r"\ ")


def layer_table(memory: Memory, *, all_rows: bool = False) -> Table:
    """Bytes of each layer; layers that write and keep nothing are left out, and said to be, unless `all_rows`."""
    training = memory.optimizer != "none"
    shown = [one for one in memory.layers if all_rows or one.output or (training and (one.kept or not one.stated))]
    columns = [Column("layer", "left"), Column("kind", "left"), Column("output", "left")]
    columns += [Column("writes"), *([Column("kept for backward")] if training else []), Column("alive at inference")]
    total: list[Cell] = ["total", None, None, Bytes(sum(one.output for one in memory.layers))]
    total += [*([_bound(memory, memory.kept)] if training else []), None]
    rows = tuple(_line(one, training) for one in shown)
    return Table(_title(memory), tuple(columns), rows, tuple(total), _notes(memory, shown))


def summary_table(memory: Memory, fits: int | None = None) -> Table:
    """The parts of the total: how each is computed, in bytes, in MB of 10^6 and in MiB of 2^20."""
    columns = (Column("what", "left"), Column("how", "left"), Column("bytes"), Column("MB"), Column("MiB"))
    rows: list[tuple[Cell, ...]] = [(name, how, *_sizes(nbytes)) for name, how, nbytes in _parts(memory)]
    rows.append((f"peak of activations at {memory.peak.row.name}", "inference", *_sizes(memory.peak.live)))
    rows.append(("inference", "params + buffers + peak", *_sizes(memory.inference)))
    if memory.optimizer == "none":
        return Table(_title(memory), columns, tuple(rows), notes=_summary_notes(memory, fits))
    total = ("training", "params + buffers + gradients + state + input + kept", *_sizes(memory.training))
    if memory.unstated:
        total = ("training, at least", *total[1:])
    order = [*rows[:2], *rows[-2:], *rows[2:-2]]
    return Table(_title(memory), columns, tuple(order), total, _summary_notes(memory, fits))


def memory_record(memory: Memory, fits: int | None = None) -> dict[str, Any]:
    """Every layer and every part in bytes."""
    training = memory.optimizer != "none"
    return {
        "schema": SCHEMA,
        "network": memory.report.network.name,
        "input": list(memory.report.input),
        "batch": memory.batch,
        "dtype": memory.dtype,
        "optimizer": memory.optimizer,
        "layers": [
            {
                "name": one.row.name,
                "kind": one.row.kind,
                "output": list(one.row.output),
                "output_bytes": one.output,
                "kept_bytes": one.kept,
                "weight_copy_bytes": one.copies,
                "live_bytes": one.live,
                "stated": one.stated,
            }
            for one in memory.layers
        ],
        "weights": memory.weights,
        "buffers": memory.buffers,
        "gradients": memory.gradients if training else 0,
        "optimizer_state": memory.state,
        "inputs": memory.inputs,
        "kept": memory.kept,
        "weight_copies": memory.copies,
        "peak": {"layer": memory.peak.row.name, "bytes": memory.peak.live},
        "inference": memory.inference,
        "training": memory.training if training else None,
        "total": memory.total,
        "at_least": bool(memory.unstated),
        "unstated": [row.name for row in memory.unstated],
        "forward_macs": memory.forward_macs,
        "backward_macs": memory.backward_macs,
        "step_macs": memory.forward_macs + memory.backward_macs,
        "fits": None if fits is None else {"bytes": fits, "batch": memory.largest_batch(fits)},
    }


def _line(one: LayerMemory, training: bool) -> tuple[Cell, ...]:
    kept: list[Cell] = [Bytes(one.kept) if one.stated else "not stated"] if training else []
    return (one.row.name, one.row.kind, units.shape(one.row.output), Bytes(one.output), *kept, Bytes(one.live))


def _bound(memory: Memory, nbytes: int) -> Cell:
    return f"at least {units.mb(nbytes)}" if memory.unstated else Bytes(nbytes)


def _parts(memory: Memory) -> list[tuple[str, str, int]]:
    """Name, arithmetic and bytes of what is held."""
    params, trained = memory.elements("param"), memory.elements("param", trained=True)
    parts = [("params", _times(params), memory.weights), ("buffers", _times(memory.elements("buffer")), memory.buffers)]
    if memory.optimizer == "none":
        return parts
    parts.append(("gradients", _times(trained), memory.gradients))
    states = STATES[memory.optimizer]
    how = _times(trained, f"{states} × ") if states else "none"
    if memory.optimizer in ("adam", "adamw"):
        how += f" + {units.count(memory.tensors)} × {COUNTER}"
    parts.append((f"state of {memory.optimizer}", how, memory.state))
    parts.append(("input", memory.report.given, memory.inputs))
    kept = "at least, of the layers that state it" if memory.unstated else "sum over layers"
    parts.append(("kept for backward", kept, memory.kept))
    return parts


def _times(elements: Mapping[int, int], before: str = "") -> str:
    """The arithmetic of elements by the bytes of each."""
    known = {width: count for width, count in elements.items() if count} or elements
    return " + ".join(f"{before}{units.count(count)} × {width}" for width, count in known.items())


def _sizes(nbytes: int) -> tuple[Cell, ...]:
    return nbytes, Bytes(nbytes), Bytes(nbytes, binary=True)


def _title(memory: Memory) -> str:
    step = "inference" if memory.optimizer == "none" else f"training with {memory.optimizer}"
    return f"{memory.report.title}, {memory.dtype}, {step}: memory"


def _notes(memory: Memory, shown: list[LayerMemory]) -> tuple[str, ...]:
    peak = memory.peak
    notes = [f"Most is alive at inference at {peak.row.name}: {units.mb(peak.live)} = {units.mib(peak.live)}."]
    kinds = Counter(one.row.kind for one in memory.layers if not any(one is other for other in shown))
    if kinds:
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        notes.append(f"Left out, they write and keep nothing anew: {listed} (--all shows them).")
    return tuple(notes)


def _traced_notes(memory: Memory) -> list[str]:
    """How training may differ from what was traced."""
    origins = [row.node.origin for row in memory.report if row.node.origin is not None]
    notes = []
    if origins:
        notes.append("Traced in evaluation mode: what runs in training mode alone is not in it (dropped paths, heads).")
    for keeper, count in Counter(origin.keeper for origin in origins if origin.keeper).items():
        notes.append(
            f"Layers that ran within {keeper}: {count}. It chooses itself what backward keeps, with checkpoints much "
            "less than these layers would, which is what is counted."
        )
    calls = list(attended(memory.report, graded(memory.report)))
    if any(call.fused for call in calls):
        notes.append("Calls of scaled_dot_product_attention are fused while training, as on the CPU.")
    known = {row.name for call in calls for row in (call.scores, call.sums)}
    if any(is_fusible(row) and row.name not in known for row in memory.report):
        notes.append("Attention was traced operation by operation; where PyTorch fuses it, less is kept.")
    return notes


def _summary_notes(memory: Memory, fits: int | None) -> tuple[str, ...]:
    notes = []
    if memory.optimizer != "none":
        forward, backward = memory.forward_macs, memory.backward_macs
        notes.append(
            f"MACs of a training step: {units.count(forward)} forward + {units.count(backward)} backward = "
            f"{units.count(forward + backward)}."
        )
    if memory.dtype == "mixed":
        kept = f" The copies are {units.mb(memory.copies)} of what is kept." if memory.optimizer != "none" else ""
        notes.append(MIXED + kept)
    if memory.unstated and memory.optimizer != "none":
        listed = some([f"{row.name} ({row.kind})" for row in memory.unstated])
        notes.append(f"What backward keeps of these is not stated, so that the total is a lower bound: {listed}.")
    notes += _traced_notes(memory) if memory.optimizer != "none" else []
    if fits is not None:
        largest = memory.largest_batch(fits)
        most = "at most " if memory.unstated and memory.optimizer != "none" else ""
        answer = f"{most}{units.count(largest)}" if largest else "none, one image is too much"
        notes.append(f"Largest batch in {units.count(fits)} bytes = {units.mb(fits)} = {units.mib(fits)}: {answer}.")
    notes.append("Workspaces, gradients of activations and what the allocator rounds up are not counted.")
    return tuple(notes)
