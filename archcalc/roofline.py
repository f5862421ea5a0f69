"""Roofline: bytes a layer has to move, its arithmetic intensity, and the least time that a machine's ceilings allow.

Compulsory traffic: each tensor that a layer reads or writes crosses the memory bus once, whatever the order of the
loops (Williams, Waterman & Patterson 2009, "Roofline: an insightful visual performance model").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from archcalc.analysis import Report, Row
from archcalc.extents import Extent, minimum, prod
from archcalc.footprint import INDEX
from archcalc.layers import Embedding, EmbeddingBag, Layer
from archcalc.layers.operation import Functional
from archcalc.names import unknown

if TYPE_CHECKING:
    from archcalc.table import Table

SCHEMA = "archcalc.intensity/1"

WIDTHS: Mapping[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}
"""Bytes of a number."""

UNIT = "MACs a byte"
"""What arithmetic intensity is given in."""

Bound: TypeAlias = Literal["compute", "memory", "launch"]


class Traffic(NamedTuple):
    """Bytes that have to be read and written."""

    read: Extent
    written: Extent

    @property
    def bytes(self) -> Extent:
        """Both together."""
        return self.read + self.written


class Limit(NamedTuple):
    """The least seconds that something takes, and the ceiling that says so; None where there is nothing to do."""

    seconds: float
    by: Bound | None


@dataclass(frozen=True)
class Ceilings:
    """What a machine does at most: MACs a second, bytes a second, and the seconds that starting anything takes."""

    macs_per_second: float
    bytes_per_second: float
    launch: float

    @property
    def ridge(self) -> float:
        """MACs a byte from which on the matrix rate, not the memory, is the lower ceiling."""
        return self.macs_per_second / self.bytes_per_second

    def limit(self, macs: int, nbytes: int) -> Limit:
        """The least time of work with so many MACs and bytes; none for a view, which has neither.

        >>> Ceilings(1e9, 1e8, 1e-5).limit(5_000_000, 100_000)
        Limit(seconds=0.005, by='compute')
        """
        if not macs and not nbytes:
            return Limit(0.0, None)
        times: dict[Bound, float] = {
            "compute": macs / self.macs_per_second,
            "memory": nbytes / self.bytes_per_second,
            "launch": self.launch,
        }
        by = max(times, key=times.__getitem__)
        return Limit(times[by], by)

    def limit_of(self, rows: Iterable[Row], dtype: str) -> Limit:
        """The least time of rows that run one after the other; the ceiling is that of the row that takes longest."""
        limits = [self.limit(row.macs, traffic(row, dtype).bytes) for row in rows]
        longest = max(limits, default=Limit(0.0, None))
        return Limit(sum(limit.seconds for limit in limits), longest.by)


def traffic(row: Row, dtype: str = "float32") -> Traffic:
    """Bytes of the tensors that a layer reads (inputs, parameters, statistics) and writes, each of them once.

    A view moves nothing, and neither does an input or a parameter that only is there. What flows between the steps of
    a layer of several steps is not counted; of an embedding's table only rows that the ids can name are.
    Raises UnknownNameError for the dtype.

    >>> from archcalc import analyze, zoo
    >>> traffic(analyze(zoo.vgg19())["conv1_1"])
    Traffic(read=609280, written=12845056)
    """
    if dtype not in WIDTHS:
        raise unknown("dtype", dtype, WIDTHS)
    width, layer = WIDTHS[dtype], row.node.layer
    if not row.sources or (layer.in_place and not row.work.ledger):
        return Traffic(0, 0)
    return Traffic(_read(row, width), width * prod(row.output))


def intensity(row: Row, dtype: str = "float32") -> Extent:
    """MACs a byte; None where nothing moves.

    >>> from archcalc import analyze, zoo
    >>> print(f"{intensity(analyze(zoo.vgg19())['conv1_1']):.3f}")
    6.444
    """
    return per_byte(row.macs, traffic(row, dtype).bytes)


def per_byte(macs: Extent, nbytes: Extent) -> Extent:
    """MACs a byte; None for no bytes."""
    return None if type(nbytes) is int and nbytes == 0 else macs / nbytes


def intensity_table(report: Report, dtype: str = "float32") -> Table:
    """Bytes and intensity of every layer that moves something: what follows from the counts alone."""
    from archcalc.table import Cell, Column, Table

    rows: list[tuple[Cell, ...]] = []
    read = written = 0
    for row in report:
        moved = traffic(row, dtype)
        if type(moved.bytes) is int and moved.bytes == 0:
            continue
        read, written = read + moved.read, written + moved.written
        rows.append((row.name, row.kind, row.macs, *moved, _ratio(row.macs, moved.bytes)))
    macs = report.total.macs
    columns = (
        Column("layer", "left"),
        Column("kind", "left"),
        *map(Column, ("MACs", "bytes read", "bytes written", UNIT)),
    )
    total = ("total", None, macs, read, written, _ratio(macs, read + written))
    title = f"{report.title}, {dtype}"
    return Table(title, columns, tuple(rows), total, ("Layers that move nothing, such as views, are left out.",))


def intensity_record(report: Report, dtype: str = "float32") -> dict[str, Any]:
    """Bytes and intensity of every layer as plain data, schema archcalc.intensity/1."""
    from archcalc.records import plain

    moved = {row.name: traffic(row, dtype) for row in report}
    return {
        "schema": SCHEMA,
        "network": report.network.name,
        "input": plain(report.input),
        "dtype": dtype,
        "layers": [
            {
                "name": row.name,
                "macs": plain(row.macs),
                "bytes_read": plain(moved[row.name].read),
                "bytes_written": plain(moved[row.name].written),
            }
            for row in report
        ],
        "total": {
            "macs": plain(report.total.macs),
            "bytes_read": plain(sum(one.read for one in moved.values())),
            "bytes_written": plain(sum(one.written for one in moved.values())),
        },
    }


def _read(row: Row, width: int) -> Extent:
    layer = computed(row)
    if isinstance(layer, Embedding | EmbeddingBag):
        ids = prod(row.inputs[0])
        return INDEX * ids + width * layer.embedding_dim * minimum(layer.num_embeddings, ids)
    inputs = {source.name: prod(source.output) for source in row.sources}
    sizes = row.work.sizes
    buffers = row.work.size("buffer", ("num_batches_tracked",))
    return width * (sum(inputs.values()) + sizes["weight"] + sizes["bias"] + buffers)


def computed(row: Row) -> Layer:
    """The layer that a row computes, also where its parameters flow in from elsewhere."""
    layer = row.node.layer
    return layer.layer if isinstance(layer, Functional) else layer


def _ratio(macs: Extent, nbytes: Extent) -> object:
    """A cell: two decimals, a closed form as it is, 0 where there are no MACs."""
    value = per_byte(macs, nbytes)
    if type(macs) is int and macs == 0:
        return 0
    return f"{value:,.2f}" if isinstance(value, float) else value
