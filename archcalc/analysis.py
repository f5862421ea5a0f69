"""Analysis: a network and an input shape give a report, one row a layer, and totals that are the sums of the rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from archcalc import receptive
from archcalc.errors import InputError, ShapeError
from archcalc.extents import Extent, Shape, as_shape, prod
from archcalc.graph import Network, Node
from archcalc.layers import Input
from archcalc.nest import Ledger, Nest, Role, ledger

if TYPE_CHECKING:
    from archcalc.table import Table


class Costs(ABC):
    """The counts of one layer or of several; each is read off nests and shapes when asked for."""

    __slots__ = ()

    @property
    @abstractmethod
    def activations(self) -> Extent:
        """Elements written, whole batch; 0 where an output lives in its input's memory."""

    @abstractmethod
    def _size(self, role: Role) -> Extent:
        """Elements of the tensors with this role."""

    @property
    @abstractmethod
    def ledger(self) -> Ledger:
        """Operations by kind."""

    @property
    def weights(self) -> Extent:
        """Elements of weight tensors."""
        return self._size("weight")

    @property
    def biases(self) -> Extent:
        """Elements of bias tensors."""
        return self._size("bias")

    @property
    def params(self) -> Extent:
        """Weights and biases."""
        return self.weights + self.biases

    @property
    def buffers(self) -> Extent:
        """Elements of tensors that are kept but not trained."""
        return self._size("buffer")

    @property
    def macs(self) -> Extent:
        """Multiply-accumulates."""
        return self.ledger.get("mac", 0)


@dataclass(frozen=True, slots=True)
class Row(Costs):
    """One layer of a report: what flows in and out, its nests, what it costs, what it sees of the input."""

    node: Node
    inputs: tuple[Shape, ...]
    output: Shape
    nests: tuple[Nest, ...]
    fields: receptive.Fields

    @property
    def name(self) -> str:
        """The layer's unique name."""
        return self.node.name

    @property
    def kind(self) -> str:
        """The layer's kind, named as PyTorch names it."""
        return self.node.layer.kind

    @property
    def counted(self) -> bool:
        """False where there is no rule for what the layer computes."""
        return self.node.layer.counted

    @property
    def activations(self) -> Extent:
        """Elements the layer writes, whole batch; 0 where its output lives in its input's memory."""
        return 0 if self.node.layer.in_place else prod(self.output)

    def _size(self, role: Role) -> Extent:
        total: Extent = 0
        for nest in self.nests:
            total = total + nest.size(role)
        return total

    @property
    def ledger(self) -> Ledger:
        """Operations by kind."""
        return ledger(self.nests)

    @property
    def receptive_field(self) -> tuple[Extent, ...] | None:
        """Input pixels along each axis that one output sees; None where there is no image or it is not even."""
        return None if not self.fields or None in self.fields else tuple(f.size for f in self.fields if f)

    @property
    def jump(self) -> tuple[Extent, ...] | None:
        """Input pixels between neighbouring outputs; None for vectors and where outputs do not step evenly."""
        if len(self.output) < 3 or not self.fields or None in self.fields:
            return None
        return tuple(f.jump for f in self.fields if f)


class Total(Costs):
    """The sum of rows."""

    __slots__ = ("rows",)

    def __init__(self, rows: Sequence[Costs]):
        self.rows = rows

    @property
    def activations(self) -> Extent:
        """Elements that all rows write."""
        return sum(row.activations for row in self.rows)

    def _size(self, role: Role) -> Extent:
        return sum(row._size(role) for row in self.rows)

    @property
    def ledger(self) -> Ledger:
        """Operations of all rows by kind."""
        result = Ledger()
        for row in self.rows:
            result.add(row.ledger)
        return result


@dataclass(frozen=True)
class Report:
    """Rows of all layers for one input shape, in the order they run."""

    network: Network
    input: Shape
    rows: tuple[Row, ...]

    @property
    def total(self) -> Total:
        """The sums over all rows."""
        return Total(self.rows)

    @property
    def uncounted(self) -> tuple[Row, ...]:
        """Rows of operations there is no rule for; with any, totals are lower bounds."""
        return tuple(row for row in self.rows if not row.counted)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> Row:
        try:
            return self._by_name[name]
        except KeyError:
            from archcalc.names import unknown

            raise unknown("layer", name, self._by_name) from None

    @cached_property
    def _by_name(self) -> dict[str, Row]:
        return {row.name: row for row in self.rows}

    def table(self, columns: Sequence[str] | None = None, **options: Any) -> Table:
        """The report as a table; columns by name, options as in `archcalc.columns.tabulate`.

        >>> from archcalc import zoo
        >>> analyze(zoo.vgg19()).table(["layer", "params"], layers="fc").rows[0]
        ('fc6', 102764544)
        """
        from archcalc.columns import DEFAULT, tabulate

        return tabulate(self, DEFAULT if columns is None else columns, **options)

    def to_markdown(self, columns: Sequence[str] | None = None, **options: Any) -> str:
        """The table in Markdown."""
        return self.table(columns, **options).to_markdown()

    def to_latex(self, columns: Sequence[str] | None = None, *, document: bool = False, **options: Any) -> str:
        """The table in LaTeX with booktabs, to be input into a document or as a document of its own."""
        return self.table(columns, **options).to_latex(document=document)

    def to_csv(self, columns: Sequence[str] | None = None, **options: Any) -> str:
        """The table as comma-separated values, every row of it."""
        return self.table(columns, **{"all_rows": True, **options}).to_csv()

    def to_html(self, columns: Sequence[str] | None = None, **options: Any) -> str:
        """The table in HTML."""
        return self.table(columns, **options).to_html()

    def to_dict(self, *, convention: str = "mac") -> dict[str, Any]:
        """The report as plain data, schema archcalc.report/1: every row, every number, every working."""
        from archcalc.records import report_record

        return report_record(self, convention)

    def _repr_html_(self) -> str:
        return self.to_html()

    def __str__(self) -> str:
        return self.table().to_terminal()


def analyze(network: Network, shape: Sequence[Any] | None = None) -> Report:
    """What every layer of a network costs on an input of this shape (batch first), by default the network's own.

    Extents may be ints, names such as "H" (closed forms), SymPy expressions or NumPy arrays (sweeps). Raises
    InputError for a malformed shape, ShapeError where a layer cannot take what flows into it.

    >>> from archcalc.layers import Conv2d
    >>> report = analyze(Network.sequential("net", (1, 3, 224, 224), [Conv2d(64, 3, padding=1)]))
    >>> report["conv2d1"].macs, report.total.params
    (86704128, 1792)
    """
    entries = network.input_nodes
    if len(entries) != 1:
        raise InputError(f"{network.name} has {len(entries)} inputs; analyze takes networks with one")
    given = entries[0].layer.output() if shape is None else as_shape(shape)
    rows: list[Row] = []
    done: dict[str, Row] = {}
    for node in network.nodes:
        if isinstance(node.layer, Input):
            row = Row(node, (), given, (), receptive.of_input(given))
        else:
            row = _row(node, [done[name] for name in node.inputs])
        done[node.name] = row
        rows.append(row)
    return Report(network, given, tuple(rows))


def _row(node: Node, sources: list[Row]) -> Row:
    shapes = tuple([source.output for source in sources])
    try:
        nests = node.layer.nests(*shapes)
        output = nests[-1].output if nests else node.layer.output(*shapes)
    except ShapeError as error:
        from archcalc import units

        given = " and ".join(units.shape(shape) for shape in shapes)
        raise ShapeError(f"{node.name} ({node.layer.kind}) on an input of {given}: {error}") from None
    fields = receptive.fold([source.fields for source in sources], shapes, output, nests)
    return Row(node, shapes, output, nests, fields)
