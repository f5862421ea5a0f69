"""Networks: layers joined into a graph, and the builder that writes one down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from archcalc.errors import SpecError
from archcalc.extents import as_shape
from archcalc.layers import Input, Layer
from archcalc.layers.base import ANY
from archcalc.names import unknown


@dataclass(frozen=True, slots=True)
class Held:
    """A tensor that a real module holds: its name there, its shape, whether it is trained, which row counts it.

    Also its type where that is not the network's, such as "int64".
    """

    name: str
    shape: tuple[int, ...]
    trained: bool = True
    counted_by: str | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """What a node was traced from: the classes of its modules and the functions of torch that ran it, outermost first.

    Without a function, the last of the modules is the layer itself. Classes are "torch.nn.Conv2d"; functions are
    "functional.linear", "matmul", "Tensor.matmul".

    The rest matters to other counters only. How the function was called: looked up in torch by "name", as an
    "operator" (`a @ b` and `a.matmul(b)` are one function), or "held" by the module since before. Whether the first
    tensor that a module took lies in memory in order; whether its `kernel_size` is one number for all axes; by how
    many ways from the root the module is reached. Of a tensor that a module holds which is no layer and has no
    submodules, the outputs of the module's calls, and the nearest class of torch.nn that its own derives from. Of a
    layer that several modules hold which run, how many beside the root. Whether padding was given as a word.

    Of attention also the axes of what an operation puts out, slowest in memory first, and with which probability its
    module drops out while training.

    What chose itself what backward keeps while it ran: torch.utils.checkpoint, a torch.autograd.Function.

    Rows of one call of a function have its number among those calls, from 1; 0 where no call was seen.
    """

    modules: tuple[str, ...]
    functions: tuple[str, ...] = ()
    called: str = "name"
    contiguous: bool = True
    one_size: bool = False
    ways: int = 1
    calls: tuple[tuple[int, ...], ...] = ()
    base: str = ""
    parents: int = 0
    worded: bool = False
    order: tuple[int, ...] = ()
    dropout: float = 0.0
    call: int = 0
    keeper: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """One layer of a network: its unique name, the names of the nodes that flow into it, the blocks it lies in.

    Of a traced module it also knows the tensors that the module holds, so that shared ones are counted once, its
    origin, since other counters see some modules and functions only, and the type of its output where that is not the
    network's, such as "bool".
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    blocks: tuple[str, ...] = ()
    held: tuple[Held, ...] = ()
    origin: Origin | None = None
    dtype: str | None = None

    def check(self) -> None:
        """Raise SpecError where the layer takes another number of inputs."""
        wanted, given = self.layer.inputs, len(self.inputs)
        if wanted not in (given, ANY) and (wanted is not None or given < 2):
            takes = "two or more inputs" if wanted is None else f"{wanted} input" + "s" * (wanted != 1)
            raise SpecError(f"{self.name} ({self.layer.kind}) takes {takes}, not {given}")


@dataclass(frozen=True)
class Network:
    """Nodes in an order in which they can run, and the names of the outputs: by default the last node's.

    A traced network has the type of its module's numbers.

    Raises SpecError for a name used twice, an input that no earlier node has, or a wrong number of inputs.
    """

    name: str
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...] = ()
    dtype: str = "float32"

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for node in self.nodes:
            if node.name in seen:
                raise SpecError(f"{self.name}: two layers are called {node.name!r}")
            for name in node.inputs:
                if name not in seen:
                    raise SpecError(
                        f"{self.name}: {node.name} takes its input from {name!r}, which no earlier layer is"
                    )
            try:
                node.check()
            except SpecError as error:
                raise SpecError(f"{self.name}: {error}") from None
            seen.add(node.name)
        if not self.outputs and self.nodes:
            object.__setattr__(self, "outputs", (self.nodes[-1].name,))
        for name in self.outputs:
            if name not in seen:
                raise SpecError(f"{self.name}: there is no layer called {name!r} to be its output")

    def __repr__(self) -> str:
        layers = len(self) - len(self.input_nodes)
        return f"<Network: {self.name}, {layers} layer{'s' * (layers != 1)}>"

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        try:
            return self._by_name[name]
        except KeyError:
            raise unknown("layer", name, self._by_name) from None

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @property
    def input_nodes(self) -> tuple[Node, ...]:
        """The nodes through which tensors enter."""
        return tuple(node for node in self.nodes if isinstance(node.layer, Input))

    @classmethod
    def sequential(cls, name: str, input: Sequence[Any], layers: Iterable[Layer]) -> Network:
        """A chain of layers on an input of the given shape, batch first.

        >>> from archcalc.layers import Flatten, Linear
        >>> [node.name for node in Network.sequential("net", (1, 3, 8, 8), [Flatten(), Linear(10)])]
        ['input', 'flatten1', 'linear1']
        """
        builder = Builder(name, input)
        for layer in layers:
            builder.add(layer)
        return builder.network()


class Builder:
    """Writes a network down layer by layer; each layer follows the one before it unless told otherwise.

    >>> from archcalc.layers import Add, Conv2d, ReLU
    >>> net = Builder("residual", (1, 64, 56, 56))
    >>> shortcut = net.last
    >>> _ = net.add(Conv2d(64, 3, padding=1, bias=False), "conv")
    >>> _ = net.add(Add(), "add", after=(net.last, shortcut))
    >>> len(net.network())
    3
    """

    def __init__(self, name: str, input: Sequence[Any]):
        self.name = name
        self._nodes: list[Node] = []
        self._blocks: tuple[str, ...] = ()
        self._prefix = ""
        self._unnamed: Counter[str] = Counter()
        self.last = self.add(Input(as_shape(input)), "input", after=())

    def add(self, layer: Layer, name: str | None = None, *, after: str | Sequence[str] | None = None) -> str:
        """Append a layer and return its full name; `after` names its inputs, by default the layer before it."""
        if name is None:
            kind = layer.kind.lower()
            self._unnamed[kind] += 1
            name = f"{kind}{self._unnamed[kind]}"
        inputs = (self.last,) if after is None else (after,) if isinstance(after, str) else tuple(after)
        self.last = self._prefix + name
        self._nodes.append(Node(self.last, layer, inputs, self._blocks))
        return self.last

    @contextmanager
    def block(self, name: str, *, prefix: bool = True) -> Iterator[None]:
        """Layers added inside lie in this block, by which tables fold; with `prefix` their names start with it."""
        before = self._blocks, self._prefix
        self._blocks = (*self._blocks, name)
        if prefix:
            self._prefix = f"{self._prefix}{name}."
        try:
            yield
        finally:
            self._blocks, self._prefix = before

    def network(self) -> Network:
        """The network as written so far. Raises SpecError."""
        return Network(self.name, tuple(self._nodes))
