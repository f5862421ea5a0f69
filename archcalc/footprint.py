"""Memory: what inference and a training step hold, in bytes; `archcalc.memory` makes it.

A layer's output lives in a storage: its own, or that of its input where it is in place or a view. Every storage is
counted once, however many layers keep it. Sizes are what PyTorch asks for on the CPU.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from reprlib import repr as shorten
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from archcalc.analysis import Report, Row, analyze
from archcalc.attended import Attended, attended, is_fusible
from archcalc.backward import backward_macs, graded, trained
from archcalc.errors import ArchcalcError, InputError
from archcalc.extents import prod
from archcalc.graph import Held, Network
from archcalc.layers import (
    LSTM,
    RBF,
    ClassToken,
    Embedding,
    EmbeddingBag,
    Input,
    LocalResponseNorm,
    MultiheadAttention,
    PositionalEmbedding,
    PReLU,
    RMSNorm,
)
from archcalc.layers.base import FACTORS, OUTPUT, Made
from archcalc.layers.operation import Functional, Parameter
from archcalc.names import unknown
from archcalc.nest import Role

if TYPE_CHECKING:
    from archcalc.table import Table

Dtype = Literal["float32", "float16", "bfloat16", "float64", "mixed"]
Optimizer = Literal["none", "sgd", "momentum", "adam", "adamw"]

WIDTHS: dict[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8, "mixed": 4}
"""Bytes of a parameter."""

STATES: dict[str, int] = {"none": 0, "sgd": 0, "momentum": 1, "adam": 2, "adamw": 2}
"""Numbers that an optimizer holds for each parameter."""

HALF, SINGLE, INDEX, COUNTER = 2, 4, 8, 4
"""Bytes of a 16-bit number, of a float32, of an index, and of Adam's count of steps, a float32 for each tensor."""


@dataclass(frozen=True, slots=True)
class LayerMemory:
    """One layer: bytes it writes anew, bytes kept for backward from it on, bytes alive while it runs at inference.

    `copies` are the 16-bit copies of its weights among what is kept. `stated` is False where a layer does not state
    what backward keeps, so that 0 is a lower bound.
    """

    row: Row
    output: int
    kept: int
    copies: int
    live: int
    stated: bool


class _Tensor(NamedTuple):
    """A parameter or buffer that a row counts."""

    role: Role
    elements: int
    width: int
    trained: bool


@dataclass(frozen=True)
class Memory:
    """What a network holds, in bytes, at one batch size."""

    report: Report
    dtype: str
    optimizer: str
    layers: tuple[LayerMemory, ...] = field(repr=False, compare=False)
    again: Callable[[int], Report] | None = field(default=None, repr=False, compare=False)
    """Gives the report at a batch size, of a network that takes one only."""

    @property
    def batch(self) -> int:
        """Images of a batch."""
        return int(self.report.input[0])

    @property
    def width(self) -> int:
        """Bytes of a parameter."""
        return WIDTHS[self.dtype]

    @cached_property
    def _tensors(self) -> tuple[_Tensor, ...]:
        found = []
        for row in self.report:
            held = {one.name: one for one in row.node.held}
            for nest in row.nests:
                for operand in nest.operands:
                    known = held.get(operand.name)
                    if operand.role in ("weight", "bias", "buffer") and not (known and known.counted_by):
                        elements = int(prod(map(nest.extent, operand.axes)))
                        width = self._width(operand.name, known)
                        found.append(_Tensor(operand.role, elements, width, known is None or known.trained))
        return tuple(found)

    def _width(self, name: str, known: Held | None) -> int:
        if known is None or known.dtype is None:
            return INDEX if name == "num_batches_tracked" else self.width
        return itemsize(known.dtype)

    def elements(self, role: Literal["param", "buffer"], *, trained: bool = False) -> Mapping[int, int]:
        """Elements of parameters or of buffers, perhaps only of what is trained, by the bytes of each."""
        found = Counter({self.width: 0})
        for one in self._tensors:
            if (one.role == "buffer") == (role == "buffer") and (one.trained or not trained):
                found[one.width] += one.elements
        return found

    @property
    def weights(self) -> int:
        """Weights and biases."""
        return _bytes(self.elements("param"))

    @property
    def buffers(self) -> int:
        """What is kept but not trained: running statistics, counts of batches."""
        return _bytes(self.elements("buffer"))

    @cached_property
    def tensors(self) -> int:
        """Tensors that are trained."""
        shared = {(row.name, held.name) for row in self.report for held in row.node.held if held.counted_by}
        return sum((row.name, operand.name) not in shared for row in self.report for _, operand in trained(row))

    @property
    def gradients(self) -> int:
        """A number for each parameter that is trained."""
        return _bytes(self.elements("param", trained=True))

    @property
    def state(self) -> int:
        """What the optimizer holds between steps."""
        counts = COUNTER * self.tensors if self.optimizer in ("adam", "adamw") else 0
        return STATES[self.optimizer] * self.gradients + counts

    @property
    def inputs(self) -> int:
        """The batch that flows in."""
        return sum(layer.output for layer in self.layers if isinstance(layer.row.node.layer, Input))

    @property
    def kept(self) -> int:
        """What backward keeps, parameters, buffers and the batch that flows in aside."""
        return sum(layer.kept for layer in self.layers)

    @property
    def copies(self) -> int:
        """The 16-bit copies of weights among what backward keeps."""
        return sum(layer.copies for layer in self.layers)

    @property
    def peak(self) -> LayerMemory:
        """The (first) layer during which most is alive at inference."""
        return max(self.layers, key=lambda layer: layer.live)

    def live_in_blocks(self, block: int) -> int:
        """The peak of activations where every storage takes whole blocks of so many bytes."""
        return max(_Accounts(self.report, self.dtype).live(block))

    @property
    def inference(self) -> int:
        """Parameters, buffers, and what is alive at the peak."""
        return self.weights + self.buffers + self.peak.live

    @property
    def training(self) -> int:
        """Parameters, buffers, gradients, the optimizer's state, the batch, what backward keeps."""
        return self.weights + self.buffers + self.gradients + self.state + self.inputs + self.kept

    @property
    def total(self) -> int:
        """That of training; of inference where there is no optimizer."""
        return self.inference if self.optimizer == "none" else self.training

    @property
    def unstated(self) -> tuple[Row, ...]:
        """Layers that do not state what backward keeps; with any, totals of training are lower bounds."""
        return tuple(layer.row for layer in self.layers if not layer.stated)

    @property
    def forward_macs(self) -> int:
        """Multiply-accumulates of a forward pass."""
        return int(self.report.total.macs)

    @cached_property
    def backward_macs(self) -> int:
        """Multiply-accumulates of a backward pass."""
        known = graded(self.report)
        return int(sum(backward_macs(row, known) for row in self.report))

    def largest_batch(self, nbytes: int) -> int:
        """The largest batch with which the total is at most this many bytes; 0 where not even one image fits.

        Raises InputError for a network that takes one batch size only.

        >>> from archcalc import memory, zoo
        >>> memory(zoo.vgg19(), optimizer="adam").largest_batch(16 * 2**30)
        189
        """
        first = self._at(1).total
        if first > nbytes:
            return 0
        low, high, guess, size = 1, None, 2, first
        while high is None or high - low > 1:
            total = self._at(guess).total
            low, size, high = (guess, total, high) if total <= nbytes else (low, size, guess)
            if high is None:  # where the line through the totals of 1 and of low ends
                guess = low + max(1, (nbytes - size) * (low - 1) // max(1, size - first))
            else:
                guess = (low + high) // 2
        return low

    def _at(self, batch: int) -> Memory:
        try:
            try:
                return memory(self.report, batch=batch, dtype=self.dtype, optimizer=self.optimizer)
            except ArchcalcError:
                if self.again is None:
                    raise
                return memory(self.again(batch), dtype=self.dtype, optimizer=self.optimizer)
        except ArchcalcError as error:
            raise InputError(f"{self.report.network.name} cannot take a batch of {batch}: {error}") from None

    def table(self, *, all_rows: bool = False) -> Table:
        """A line for each layer."""
        from archcalc.footprint_table import layer_table

        return layer_table(self, all_rows=all_rows)

    def summary(self, fits: int | None = None) -> Table:
        """What the total is made of; with `fits` also the largest batch for that many bytes."""
        from archcalc.footprint_table import summary_table

        return summary_table(self, fits)

    def to_dict(self, fits: int | None = None) -> dict[str, Any]:
        """Plain data, schema archcalc.memory/1."""
        from archcalc.footprint_table import memory_record

        return memory_record(self, fits)

    def _repr_html_(self) -> str:
        return self.summary().to_html()

    def __str__(self) -> str:
        return str(self.summary())


def memory(
    target: Network | Report, *, batch: int | None = None, dtype: str | None = None, optimizer: str = "sgd"
) -> Memory:
    """What a network, or a report's network on the report's input, holds at a batch size, by default the input's.

    The dtype is by default the network's: float32, or that of the module it was traced from. Another one replaces that
    alone: masks, ids and what has a type of its own stay as they are. `mixed` means float32 parameters under
    `torch.autocast` to 16 bits. Training mode: dropouts drop, batch norms take the statistics of the batch.
    Raises InputError for an input that is not of whole numbers, UnknownNameError.

    >>> from archcalc import zoo
    >>> held = memory(zoo.resnet34(), batch=32, optimizer="adam")
    >>> held.weights, held.state // held.weights
    (87190688, 2)
    """
    report = target if isinstance(target, Report) else analyze(target)
    dtype = report.network.dtype if dtype is None else dtype
    for name, value, known in (("dtype", dtype, get_args(Dtype)), ("optimizer", optimizer, get_args(Optimizer))):
        if value not in known:
            raise unknown(name, value, known)
    if batch is not None and batch != report.input[0]:
        if type(batch) is not int or batch < 1:
            raise InputError(f"a batch is a positive whole number, not {batch!r}")
        report = analyze(report.network, (batch, *report.input[1:]))
    if not all(type(extent) is int for row in report for extent in row.output):
        raise InputError(f"memory of {report.network.name}: the input must be of whole numbers, not symbols or arrays")
    return Memory(report, dtype, optimizer, tuple(_Accounts(report, dtype).layers()))


def parse_bytes(text: str) -> int:
    """Bytes as typed: "16GiB" is 16·2^30, "16GB" 16·10^9, "4096" so many. Raises InputError.

    >>> parse_bytes("1.5 KiB")
    1536
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?(?:([KMGTP]?)(i?)B)?", text.strip(), re.IGNORECASE)
    if match is None or (match[3] and not match[2]):
        raise InputError(
            f"cannot read {shorten(text)} as bytes: write 16GiB (2^30 each), 16GB (10^9 each) or a number of bytes"
        )
    power = " KMGTP".index((match[2] or " ").upper())
    return int(Decimal(match[1]) * (1024 if match[3] else 1000) ** power)


def itemsize(dtype: str) -> int:
    """Bytes of a number of a type that is named as torch names it.

    >>> [itemsize(dtype) for dtype in ("bool", "int64", "bfloat16", "complex64", "float8_e4m3fn")]
    [1, 8, 2, 8, 1]
    """
    bits = re.search(r"\d+", dtype)
    return max(1, int(bits[0]) // 8) if bits else 1


def _bytes(elements: Mapping[int, int]) -> int:
    return sum(width * count for width, count in elements.items())


class _Accounts:
    """The storages of a report's layers, how wide their numbers are, who keeps them and until when they live."""

    def __init__(self, report: Report, dtype: str):
        self.report, self.mixed = report, dtype == "mixed"
        self.parameter = WIDTHS[dtype]
        self.graded = graded(report)
        self.attention = {call.sums.name: call for call in attended(report, self.graded)}
        fused = [call for call in self.attention.values() if call.fused]
        self.fused = {row.name for call in fused for row in (call.scores, call.softmax)}
        self.unmoved = {call.copy.name for call in fused if call.copy is not None}
        self.widths: dict[str, int] = {}
        ids = {name for row in report if isinstance(row.node.layer, _TABLES) for name in row.node.inputs}
        for row in report:
            known = INDEX if row.name in ids else None
            self.widths[row.name] = itemsize(row.node.dtype) if row.node.dtype else known or self._width(row)

    def layers(self) -> Iterator[LayerMemory]:
        """Every layer's account, in the order they run."""
        storage = self._storages(lambda row: row.node.layer.trains_in_place or row.name in self.unmoved)
        kept = {row.name for row in self.report if isinstance(row.node.layer, (Input, Parameter))}  # counted elsewhere
        for row, live in zip(self.report, self.live(), strict=True):
            made = _made(row, row.node.layer.in_place)
            copies = self._copies(row)
            items = self._kept(row, storage)
            total = copies
            for name, nbytes in items or ():
                total += 0 if name in kept else nbytes
                kept |= {name} if name else set()
            yield LayerMemory(row, made * self.widths[row.name], total, copies, live, items is not None)

    def _width(self, row: Row) -> int:
        """Bytes of a number of a layer's output that is of the network's type."""
        layer = row.node.layer
        if not row.sources or isinstance(layer, _TABLES):
            return self.parameter
        if self.mixed and isinstance(layer, LocalResponseNorm) and len(row.output) > 3:
            return SINGLE  # its sums are those of AvgPool3d
        cast = self._cast(row)
        if cast is not None:
            return cast
        sources = row.sources[:1] if isinstance(layer, Functional) else row.sources
        widths = [self.widths[source.name] for source in sources if source.node.dtype is None]
        own = self.parameter if isinstance(layer, _JOINED) or not widths else 0
        return max([own, *widths])

    def _cast(self, row: Row) -> int | None:
        """Bytes of the numbers that autocast casts a layer's inputs to; None where it takes them as they come."""
        if not self.mixed or row.node.dtype:
            return None
        if isinstance(row.node.layer, PReLU) or any("mac" in nest.ops for nest in row.nests):
            return HALF
        return SINGLE if row.kind in _SINGLE else None

    def _storages(self, in_place: Callable[[Row], bool]) -> dict[str, str]:
        """For each layer the one that its output's storage was made by."""
        storage: dict[str, str] = {}
        for row in self.report:
            shared = bool(row.sources) and in_place(row)
            storage[row.name] = storage[row.sources[0].name] if shared else row.name
        return storage

    def _size(self, row: Row) -> int:
        """Bytes of a layer's output, wherever it lives."""
        return int(prod(row.output)) * self.widths[row.name]

    def live(self, block: int = 1) -> Iterator[int]:
        """Bytes alive while each layer runs at inference, in whole blocks: a storage goes when it was last read."""
        storage = self._storages(lambda row: row.node.layer.in_place)
        last: dict[str, int] = {}
        for index, row in enumerate(self.report):
            for name in (row.name, *row.node.inputs):
                last[storage[name]] = index
        outputs = {storage[name] for name in self.report.network.outputs}
        size = {row.name: _made(row, row.node.layer.in_place) * self.widths[row.name] for row in self.report}
        size = {name: -(-nbytes // block) * block for name, nbytes in size.items()}
        alive = 0
        for index, row in enumerate(self.report):
            alive += size[row.name]
            yield alive
            ended = {storage[name] for name in (row.name, *row.node.inputs)} - outputs
            alive -= sum(size[name] for name in ended if last[name] == index)

    def _kept(self, row: Row, storage: dict[str, str]) -> list[tuple[str | None, int]] | None:
        """Storages that a layer keeps, by the layer that made them, and tensors without one; None where not stated."""
        if row.name not in self.graded or row.name in self.fused:
            return []
        call = self.attention.get(row.name)
        if call is not None and call.fused:
            return self._fused(call, storage)
        if call is not None and is_fusible(row) and self.widths[row.name] == HALF:
            return None  # PyTorch casts between its steps
        if call is not None and call.dropout:
            return [(None, self.widths[row.name] * call.dropped), self._stored(row.sources[-1], storage)]
        stated = None if self._steps_cast(row) else row.node.layer.keeps(*row.inputs)
        if stated is None:
            return None
        items: list[tuple[str | None, int]] = []
        for one in stated:
            if isinstance(one, Made):
                own = self.widths[row.name]
                widths = {"activation": own, "parameter": self.parameter, "single": max(SINGLE, own), "index": INDEX}
                width = widths[one.width]
                items.append((None, int(one.elements) * width))
            elif one == OUTPUT:
                items.append((storage[row.name], self._storage_size(storage[row.name])))
            else:
                items += [self._read(row, index, storage) for index in self._needed(row, factors=one == FACTORS)]
        return items

    def _fused(self, call: Attended, storage: dict[str, str]) -> list[tuple[str | None, int]]:
        """What the kernel of fused attention keeps."""
        assert call.output is not None
        width = self.widths[call.output.name]
        kept: list[tuple[str | None, int]] = [
            self._stored(call.output, storage),
            (None, max(SINGLE, width) * call.logarithms),
        ]
        for row in call.read:
            cast = self.widths[row.name] != width
            kept.append((None, int(prod(row.output)) * width) if cast else self._stored(row, storage))
        return kept

    def _stored(self, row: Row, storage: dict[str, str]) -> tuple[str, int]:
        return storage[row.name], self._storage_size(storage[row.name])

    def _steps_cast(self, row: Row) -> bool:
        """Whether PyTorch casts between the steps of a layer, which then keeps something else than it states."""
        layer, width = row.node.layer, self.widths[row.name]
        if isinstance(layer, MultiheadAttention):
            return bool(layer.dropout) and (self.mixed or width == HALF)
        if isinstance(layer, LSTM) and width != SINGLE:
            return True  # 16 bits oneDNN computes on some machines only, 64 never
        padded = getattr(layer, "padding_mode", "zeros") in ("reflect", "replicate")
        return self.mixed and (padded or layer.kind in _CAST_WITHIN)

    def _read(self, row: Row, index: int, storage: dict[str, str]) -> tuple[str | None, int]:
        """An input that backward reads: its storage, or a copy where autocast casts it or the layer overwrites it."""
        source, layer = row.sources[index], row.node.layer
        cast = max(SINGLE, self.widths[source.name]) if isinstance(layer, RMSNorm) else self._cast(row)
        if cast not in (None, self.widths[source.name]):
            return None, int(prod(source.output)) * cast
        if index == 0 and layer.trains_in_place and getattr(layer, "inplace", False):
            return None, self._size(source)
        return self._stored(source, storage)

    def _storage_size(self, name: str) -> int:
        return self._size(self.report[name])

    def _needed(self, row: Row, *, factors: bool) -> Collection[int]:
        """Indices of the inputs that backward reads."""
        count = len(row.sources)
        if not factors:
            return range(min(count, 2) if isinstance(row.node.layer, Functional) else count)
        if count == 1:
            return (0,) if any(operand.role == "weight" for _, operand in trained(row)) else ()
        first, second = count - 2, count - 1
        pairs = ((first, second), (second, first))
        return [one for one, other in pairs if row.sources[other].name in self.graded]

    def _copies(self, row: Row) -> int:
        """Bytes of the 16-bit copies of a layer's weights that backward reads."""
        if self._cast(row) != HALF or row.name not in self.graded or row.kind in _CAST_WITHIN:
            return 0
        if row.node.layer.kept == (FACTORS,) and not any(source.name in self.graded for source in row.sources):
            return 0
        elsewhere = {held.name for held in row.node.held if held.counted_by}
        return HALF * int(row.work.size("weight", elsewhere))


_TABLES = (Embedding, EmbeddingBag)

_JOINED = (ClassToken, PositionalEmbedding, RBF)
"""Kinds that join their input with tensors of their own, so that the wider of the two is the output's width."""

_SINGLE = {
    *("ReflectionPad1d", "ReflectionPad2d", "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d"),
    *("MaxPool3d", "AvgPool3d", "AdaptiveMaxPool3d", "AdaptiveAvgPool3d", "FractionalMaxPool2d", "FractionalMaxPool3d"),
}
"""Kinds that autocast on the CPU computes in float32."""

_CAST_WITHIN = {"LPPool3d", "RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"}
"""Kinds between whose steps autocast casts."""


def _made(row: Row, in_place: bool) -> int:
    """Elements a layer writes anew."""
    return 0 if in_place else int(prod(row.output))
