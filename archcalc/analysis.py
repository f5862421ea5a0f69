"""Analysis: a network and an input shape give a report, one row a layer, and totals that are the sums of the rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from archcalc import receptive, units
from archcalc.errors import InputError, ShapeError
from archcalc.extents import Extent, Shape, as_shape, prod, same
from archcalc.graph import Network, Node
from archcalc.layers import Input, Layer
from archcalc.nest import Ledger, Nest, Role, ledger, sizes

if TYPE_CHECKING:
    from archcalc.explain import Working
    from archcalc.plots.canvas import Plot
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
    @abstractmethod
    def frozen(self) -> Extent:
        """Parameters that are not trained."""

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


class Work:
    """A layer on inputs of given shapes: its nests, its output, and what is read off them, read once.

    Networks repeat their blocks, so that many rows share one. Raises ShapeError.
    """

    def __init__(self, layer: Layer, inputs: tuple[Shape, ...]):
        self.nests = layer.nests(*inputs)
        self.output = self.nests[-1].output if self.nests else layer.output(*inputs)
        self.activations = 0 if layer.in_place else prod(self.output)
        self.still = len(inputs) == 1 and layer.local and receptive.still(inputs[0], self.output, self.nests)
        self.ledger = ledger(self.nests)
        self.sizes = sizes(self.nests)

    def size(self, role: Role, but: Collection[str] = ()) -> Extent:
        """Elements of the tensors with this role, but for those of these names."""
        return sizes(self.nests, but)[role] if but else self.sizes[role]


@dataclass(frozen=True, slots=True, eq=False)
class Row(Costs):
    """One layer of a report: what flows in and out, what it costs, what it sees of the input.

    A row is equal to itself only: comparing or hashing its sources would go through theirs, twice at every residual.
    """

    node: Node
    sources: tuple[Row, ...] = field(repr=False)  # whose own sources would be written out over and over
    work: Work
    fields: receptive.Fields

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """Shapes of what flows in."""
        return tuple([source.work.output for source in self.sources])

    @property
    def output(self) -> Shape:
        """Shape of the output."""
        return self.work.output

    @property
    def nests(self) -> tuple[Nest, ...]:
        """Loop nests in the order they run; none where data is only moved."""
        return self.work.nests

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
        return self.work.activations

    def _size(self, role: Role) -> Extent:
        if not self.node.held:
            return self.work.sizes[role]
        elsewhere = {held.name for held in self.node.held if held.counted_by}
        return self.work.size(role, elsewhere) if elsewhere else self.work.size(role)

    @property
    def frozen(self) -> Extent:
        """Parameters that are not trained."""
        kept = {held.name for held in self.node.held if held.trained or held.counted_by}
        if len(kept) == len(self.node.held):
            return 0
        return self.work.size("weight", kept) + self.work.size("bias", kept)

    @property
    def ledger(self) -> Ledger:
        """Operations by kind."""
        return Ledger(self.work.ledger)

    @property
    def working(self) -> Working:
        """The arithmetic behind every number of the row, by column name; printed, a line each.

        >>> from archcalc import zoo
        >>> print(analyze(zoo.vgg19())["conv1_1"].working["weights"].text())
        (3·3·3)·64 = 1,728
        """
        from archcalc.explain import explained

        return explained(self)

    @property
    def receptive_field(self) -> tuple[Extent, ...] | None:
        """Input pixels along each axis that one output sees; None where there is no image or it is not even."""
        known = [field.size for field in self.fields if field is not None]
        return tuple(known) if 0 < len(known) == len(self.fields) else None

    @property
    def jump(self) -> tuple[Extent, ...] | None:
        """Input pixels between neighbouring outputs; None for vectors and where outputs do not step evenly."""
        known = [field.jump for field in self.fields if field is not None]
        return tuple(known) if 0 < len(known) == len(self.fields) < len(self.work.output) - 1 else None


class Total(Costs):
    """The sum of rows."""

    __slots__ = ("rows",)

    def __init__(self, rows: Sequence[Costs]):
        self.rows = rows

    def __repr__(self) -> str:
        names = ("activations", "weights", "biases", "params", "buffers", "macs")
        return f"<Total: {', '.join(f'{name} {units.count(getattr(self, name))}' for name in names)}>"

    @property
    def activations(self) -> Extent:
        """Elements that all rows write."""
        return sum(row.activations for row in self.rows)

    def _size(self, role: Role) -> Extent:
        return sum(row._size(role) for row in self.rows)

    @property
    def frozen(self) -> Extent:
        """Parameters that are not trained."""
        return sum(row.frozen for row in self.rows)

    @property
    def ledger(self) -> Ledger:
        """Operations of all rows by kind."""
        result = Ledger()
        for row in self.rows:
            result.add(row.ledger)
        return result


@dataclass(frozen=True)
class Report:
    """Rows of all layers for one input shape, in the order they run; equal to any report of an equal network on it."""

    network: Network
    input: Shape
    rows: tuple[Row, ...] = field(compare=False)

    @property
    def output(self) -> Shape:
        """Shape of the (first) output."""
        return self[self.network.outputs[0]].output

    @property
    def title(self) -> str:
        """The network's name, and the shapes of all its inputs.

        >>> from archcalc import zoo
        >>> analyze(zoo.alexnet()).title
        'alexnet on 1×3×227×227'
        """
        return f"{self.network.name} on {self.given}"

    @property
    def given(self) -> str:
        """The shapes of all inputs, as text."""
        return " and ".join(units.shape(self[node.name].output) for node in self.network.input_nodes)

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

    def compare(self, *others: Report, layers: bool = False, convention: str = "mac") -> Table:
        """This report beside others, with ratios and savings; with `layers` layer by layer. Raises InputError.

        >>> from archcalc import zoo
        >>> analyze(zoo.vgg19()).compare(analyze(zoo.vgg16())).rows[6]
        ('params', 143667240, 138357544, '0.963×', '3.7%')
        """
        from archcalc.compare import compare, compare_layers

        return (compare_layers if layers else compare)((self, *others), convention)

    def plot(self, **options: Any) -> Plot:
        """Bars by layer, a panel for each quantity; see `archcalc.plots.plot`. Raises MissingPackageError."""
        from archcalc.plots import plot

        return plot(self, **options)

    def __repr__(self) -> str:
        return f"<Report: {self.title}, {len(self)} rows>"

    def _repr_html_(self) -> str:
        return self.to_html()

    def __str__(self) -> str:
        return str(self.table())


def analyze(network: Network, shape: Sequence[Any] | None = None) -> Report:
    """What every layer of a network costs on an input of this shape (batch first), by default the network's own.

    Extents may be ints, names such as "H" (closed forms), SymPy expressions or NumPy arrays (sweeps). Raises
    InputError for a malformed shape or what is no Network, ShapeError where a layer cannot take what flows into it.

    >>> from archcalc.layers import Conv2d
    >>> report = analyze(Network.sequential("net", (1, 3, 224, 224), [Conv2d(64, 3, padding=1)]))
    >>> report["conv2d1"].macs, report.total.params
    (86704128, 1792)
    """
    if not isinstance(network, Network):
        given = type(network).__name__
        raise InputError(f"analyze takes a Network, such as ac.zoo.vgg19() or ac.trace(module, shape), not a {given}")
    entries = network.input_nodes
    if shape is not None and len(entries) != 1:
        raise InputError(f"{network.name} has {len(entries)} inputs; another shape can be given to networks with one")
    own = entries[0].layer.output() if entries else ()
    given = own if shape is None else as_shape(shape)
    rows: list[Row] = []
    done: dict[str, Row] = {}
    works: dict[Any, Work] = {}
    for node in network.nodes:
        sources = tuple([done[name] for name in node.inputs])
        if sources:
            shapes = tuple([source.work.output for source in sources])
            work = _work(node, shapes, works)
            fields = sources[0].fields
            if not work.still:
                seen = [source.fields for source in sources]
                fields = receptive.fold(seen, shapes, work.output, work.nests, local=node.layer.local)
            row = Row(node, sources, work, fields)
        elif isinstance(node.layer, Input):
            work = Work(Input(given) if shape is not None else node.layer, ())
            row = Row(node, (), work, receptive.of_input(work.output))
        else:
            row = Row(node, (), Work(node.layer, ()), ())
        done[node.name] = row
        rows.append(row)
    return Report(network, given, tuple(rows))


def _work(node: Node, shapes: tuple[Shape, ...], known: dict[Any, Work]) -> Work:
    """The work of a node, shared with an equal layer on equal shapes. Raises ShapeError that names the node."""
    key: tuple[Any, ...] = (node.layer, shapes)
    try:
        work = known.get(key)
    except TypeError:  # sweeps have no hash, and share nothing
        key = (node.name, ())
        work = None
    if work is None:
        try:
            work = known[key] = Work(node.layer, shapes)
            _same_parameters(node, work)
        except ShapeError as error:
            from archcalc import units

            given = " and ".join(units.shape(shape) for shape in shapes)
            raise ShapeError(f"{node.name} ({node.layer.kind}) on an input of {given}: {error}") from None
    return work


def _same_parameters(node: Node, work: Work) -> None:
    """Raise ShapeError where a layer would need other parameters than its module holds."""
    held = {tensor.name: tensor.shape for tensor in node.held}
    for nest in work.nests if held else ():
        for operand in nest.operands:
            known = held.get(operand.name)
            if known is not None and not all(map(same, known, nest.shape(operand))):
                raise ShapeError(f"its {operand.name} is {known} but would have to be {nest.shape(operand)}")
