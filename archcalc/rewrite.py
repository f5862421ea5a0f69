"""What-ifs: rewrites that take a network and return a new one, which can be rewritten again.

Between the layers that take another's place stands what stands after it, its batch norm and its activation, as in the
networks these rewrites come from. New layers are named after the one they replace: conv1_1.depthwise.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from inspect import getdoc, signature
from math import lcm
from typing import Any, TypeVar

from archcalc.analysis import Report, Row, analyze
from archcalc.errors import InputError, ShapeError, SpecError
from archcalc.extents import Shape, as_shape, prod
from archcalc.graph import Network, Node
from archcalc.layers import KINDS, BatchNorm1d, BatchNorm2d, BatchNorm3d, Input, Layer, Linear, PadChannels, conv
from archcalc.layers.base import ints
from archcalc.layers.resample import scaled
from archcalc.names import unknown
from archcalc.nest import ledger

BATCH_NORMS = (BatchNorm1d, BatchNorm2d, BatchNorm3d)
CONVOLUTIONS = (conv.Conv1d, conv.Conv2d, conv.Conv3d)
TRANSPOSED = (conv.ConvTranspose1d, conv.ConvTranspose2d, conv.ConvTranspose3d)

_ADAPTING = ("BatchNorm", "InstanceNorm", "GroupNorm", "PReLU")
"""Kinds with parameters that take any number of channels."""

_GATES = ("Sigmoid", "Hardsigmoid")

Change = Callable[[Row], Sequence[tuple[str, Layer]]]
"""Names and layers, one after the other, that take the place of a row; none where it stays."""

F = TypeVar("F", bound=Callable[..., Network])

REWRITES: dict[str, Callable[..., Network]] = {}
"""Every rewrite by the name it has on the command line."""


def _named(name: str) -> Callable[[F], F]:
    def register(function: F) -> F:
        REWRITES[name] = function
        return function

    return register


@dataclass(frozen=True)
class Written:
    """A rewrite as it is typed: NAME, NAME=VALUE, and @REGEX for the layers it is meant for."""

    name: str
    value: str | None = None
    layers: str | None = None

    @classmethod
    def read(cls, text: str) -> Written:
        """The parts of a text such as "groups=4@conv5". Raises UnknownNameError."""
        head, _, layers = text.partition("@")
        name, equals, value = head.partition("=")
        if name not in REWRITES:
            raise unknown("rewrite", name, REWRITES)
        return cls(name, value if equals else None, layers or None)

    def apply(self, network: Network) -> Network:
        """The network rewritten. Raises InputError, SpecError, ShapeError."""
        function = REWRITES[self.name]
        _, *parameters = signature(function).parameters.values()
        given: dict[str, Any] = {}
        value = next((one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD), None)
        if self.value is not None:
            if value is None:
                raise InputError(f"the rewrite {self.name} takes no value, such as {self.value!r}")
            given[value.name] = _parsed(self.name, value.annotation, self.value)
        elif value is not None and value.default is value.empty:
            raise InputError(f"the rewrite {self.name} needs a value: {self.name}={value.name.upper()}")
        if self.layers is not None:
            if not any(one.name == "layers" for one in parameters):
                raise InputError(f"the rewrite {self.name} is of the whole network; it takes no layers (@)")
            given["layers"] = self.layers
        return function(network, **given)


def apply(network: Network, text: str) -> Network:
    """The network with the rewrite of this name, as it is typed after a target: "groups=4", "stacked@conv1".

    Raises UnknownNameError, InputError, SpecError where it applies to no layer.

    >>> from archcalc import zoo
    >>> apply(zoo.vgg19(), "width=0.5").name
    'vgg19+width=0.5'
    """
    return replace(Written.read(text).apply(network), name=f"{network.name}+{text}")


def summaries() -> dict[str, str]:
    """Every rewrite as it is typed, and what it does."""
    found = {}
    for name, function in REWRITES.items():
        _, *parameters = signature(function).parameters.values()
        value = next((one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD), None)
        typed = "" if value is None else f"={value.name.upper()}"
        optional = value is not None and value.default is not value.empty
        found[f"{name}[{typed}]" if optional else name + typed] = (getdoc(function) or "").partition("\n")[0]
    return found


@_named("depthwise-separable")
def depthwise_separable(network: Network, *, layers: str | None = None) -> Network:
    """A k×k depthwise and a 1×1 pointwise convolution instead of each k×k convolution.

    The stride is the depthwise one's; both have a bias if the convolution has (Howard et al. 2017, section 3.1).

    >>> from archcalc import zoo
    >>> net = depthwise_separable(zoo.vgg19(), layers="conv1_1")
    >>> [node.name for node in net][1:4]
    ['conv1_1.depthwise', 'conv1_1.relu1', 'conv1_1.pointwise']
    """
    between = _between(network)

    def change(row: Row) -> Sequence[tuple[str, Layer]]:
        layer: Any = row.node.layer
        channels = row.inputs[0][1]
        if not _spatial(layer):
            return ()
        depthwise = replace(layer, out_channels=channels, groups=channels)
        pointwise = type(layer)(layer.out_channels, 1, bias=layer.bias)
        return _chain(row, between, (("depthwise", depthwise), ("pointwise", pointwise)))

    return _changed(network, "depthwise-separable", change, layers, "a convolution of k×k that is not grouped")


@_named("stacked")
def stacked(network: Network, *, layers: str | None = None) -> Network:
    """A stack of 3×3 convolutions instead of each 5×5, 7×7, 9×9, 11×11, ...

    The stack sees what the large kernel sees, at the same places: (k - 1)/2 convolutions, each as wide as the one
    replaced, of which the last has the stride (Simonyan & Zisserman 2014, section 2.3).

    >>> from archcalc import zoo
    >>> [node.name for node in stacked(zoo.alexnet(), layers="conv2")][5:8]
    ['conv2.1', 'conv2.relu1', 'conv2.2']
    """
    between = _between(network)

    def change(row: Row) -> Sequence[tuple[str, Layer]]:
        layer: Any = row.node.layer
        if not isinstance(layer, CONVOLUTIONS):
            return ()
        sizes = set(ints(layer.kernel_size))
        (size,) = sizes if len(sizes) == 1 else (0,)
        if size < 5 or size % 2 == 0:
            return ()
        count = size // 2
        parts = [
            (
                str(i + 1),
                replace(
                    layer,
                    kernel_size=3,
                    stride=layer.stride if i == count - 1 else 1,
                    padding=_share(layer.padding, i, count),
                ),
            )
            for i in range(count)
        ]
        return _chain(row, between, parts)

    return _changed(network, "stacked", change, layers, "a convolution of 5×5 or an odd larger size")


@_named("bottleneck")
def bottleneck(network: Network, ratio: int = 4, *, layers: str | None = None) -> Network:
    """1×1 convolutions around each k×k convolution, which then has 1/RATIO of its channels (4 by default).

    One narrows before it, one widens after it (He et al. 2015, section 4.1 and figure 5).
    """
    _at_least_1("ratio", ratio)
    between = _between(network)

    def change(row: Row) -> Sequence[tuple[str, Layer]]:
        layer: Any = row.node.layer
        if not _spatial(layer):
            return ()
        narrow = max(layer.out_channels // ratio, 1)
        if narrow >= row.inputs[0][1]:
            return ()
        reduce = type(layer)(narrow, 1, bias=layer.bias)
        expand = type(layer)(layer.out_channels, 1, bias=layer.bias)
        parts = (("reduce", reduce), ("conv", replace(layer, out_channels=narrow)), ("expand", expand))
        return _chain(row, between, parts)

    what = f"a convolution of k×k on more channels than 1/{ratio} of its own"
    return _changed(network, f"bottleneck={ratio}", change, layers, what)


@_named("groups")
def groups(network: Network, groups: int, *, layers: str | None = None) -> Network:
    """Each k×k convolution in GROUPS groups that do not see each other, where they divide its channels."""
    _at_least_1("groups", groups)

    def change(row: Row) -> Sequence[tuple[str, Layer]]:
        layer: Any = row.node.layer
        if not _spatial(layer) or layer.out_channels % groups or row.inputs[0][1] % groups or groups == 1:
            return ()
        return ((row.name, replace(layer, groups=groups)),)

    what = f"an ungrouped convolution of k×k whose channels {groups} divides"
    return _changed(network, f"groups={groups}", change, layers, what)


@_named("batch-norm")
def batch_norm(network: Network, *, layers: str | None = None) -> Network:
    """A batch norm after each convolution that has none, which needs no bias then."""
    readers = _readers(network)

    def change(row: Row) -> Sequence[tuple[str, Layer]]:
        layer: Any = row.node.layer
        if not isinstance(layer, CONVOLUTIONS + TRANSPOSED):
            return ()
        if any(isinstance(reader.layer, BATCH_NORMS) for reader in readers[row.name]):
            return ()
        return (row.name, replace(layer, bias=False)), (f"{row.name}_bn", BATCH_NORMS[layer.rank - 1]())

    return _changed(network, "batch-norm", change, layers, "a convolution without a batch norm")


@_named("activation")
def activation(network: Network, kind: str, *, layers: str | None = None) -> Network:
    """KIND, such as GELU, instead of each activation; layers keep their names.

    Gates stay: sigmoids whose output is a factor, as in squeeze-and-excitation.
    """
    known = {name.lower(): cls for name, cls in KINDS.items() if cls.__module__ == "archcalc.layers.activation"}
    made = known.get(kind.lower())
    if made is None:
        raise unknown("activation", kind, [cls.__name__ for cls in known.values()])
    try:
        new = made()
    except TypeError:
        raise SpecError(f"{made.__name__} needs arguments; it cannot take another activation's place") from None
    readers = _readers(network)

    def change(row: Row) -> Sequence[tuple[str, Layer]]:
        layer: Any = row.node.layer
        gate = layer.kind in _GATES and any(reader.layer.kind.startswith("mul") for reader in readers[row.name])
        if type(layer) not in known.values() or layer.kind in ("GLU", new.kind) or gate:
            return ()
        in_place = {"inplace": layer.in_place} if hasattr(new, "inplace") else {}
        return ((row.name, replace(new, **in_place)),)

    return _changed(network, f"activation={new.kind}", change, layers, f"an activation other than {new.kind}")


@_named("width")
def width(network: Network, factor: float) -> Network:
    """Every layer FACTOR times as wide, but for the last one, which has one output for each class.

    Widths are rounded to the nearest multiple of the number of groups there are; a depthwise convolution stays one
    (Howard et al. 2017, section 3.3). Raises SpecError for a layer whose width is of a kind that cannot be scaled.
    """
    _positive("factor", factor)
    report = analyze(network)
    _unshared(report.rows)
    kept = _classifiers(report)
    divisor = lcm(*(g for row in report for g in [getattr(row.node.layer, "groups", 1)] if not _depthwise(row)))

    def wide(channels: int) -> int:
        return max(int(channels * Fraction(factor).limit_denominator(10**6) / divisor + Fraction(1, 2)), 1) * divisor

    nodes: list[Node] = []
    shapes: dict[str, Shape] = {}
    for row in report:
        inputs = tuple(shapes[name] for name in row.node.inputs)
        layer = row.node.layer if row.name in kept else _widened(row, inputs, wide)
        try:
            shapes[row.name] = layer.output(*inputs)
        except ShapeError as error:
            raise ShapeError(f"{row.name} ({row.kind}) in a network {factor:g} times as wide: {error}") from None
        nodes.append(replace(row.node, layer=layer, held=()))
    if all(new.layer == row.node.layer for new, row in zip(nodes, report, strict=True)):
        raise SpecError(f"{network.name}: no layer would have another width with width={factor:g}")
    return replace(network, name=f"{network.name}+width={factor:g}", nodes=tuple(nodes))


@_named("resolution")
def resolution(network: Network, factor: float) -> Network:
    """The image FACTOR times as high and as wide, rounded down."""
    _positive("factor", factor)
    nodes, found = [], False
    for node in network:
        shape = node.layer.output() if isinstance(node.layer, Input) else ()
        if len(shape) > 3:
            found = True
            sides = tuple(scaled(side, factor) for side in shape[2:])
            if any(type(side) is int and side < 1 for side in sides):
                raise SpecError(f"{network.name}: resolution={factor:g} leaves nothing of an image of {shape[2:]}")
            node = replace(node, layer=Input((*shape[:2], *sides)))
        nodes.append(node)
    if not found:
        raise SpecError(f"{network.name}: resolution applies to images, and no input is one")
    return replace(network, name=f"{network.name}+resolution={factor:g}", nodes=tuple(nodes))


def on_input(network: Network, shape: Shape) -> Network:
    """The network with another shape of its one input."""
    given = as_shape(shape)
    nodes = (replace(node, layer=Input(given)) if isinstance(node.layer, Input) else node for node in network)
    return replace(network, nodes=tuple(nodes))


def macs_ratio(rewrite: Callable[[Network], Network], kernel: int | str = "k") -> Any:
    """Closed form of MACs after to MACs before for one convolution of C to K channels: a SymPy expression.

    The convolution is rewritten with sizes that are different primes; then the loops of the real nests are lettered.
    A kernel size that the rewrite asks for is a number. Raises MissingPackageError without SymPy.

    >>> macs_ratio(depthwise_separable)
    k**(-2) + 1/K
    >>> macs_ratio(stacked, 5)
    9/25 + 9*K/(25*C)
    """
    from archcalc.symbols import symbol

    taps = 3 if isinstance(kernel, str) else kernel
    letters = {17: symbol("C"), 19: symbol("K"), 23: symbol("P"), 29: symbol("Q")}
    if isinstance(kernel, str):
        letters[taps] = symbol(kernel)
    one = Network.sequential("one", (1, 17, 23, 29), [conv.Conv2d(19, taps, padding=taps // 2)])

    def macs(network: Network) -> Any:
        nests = [nest for row in analyze(network) for nest in row.nests]
        lettered = [
            nest._replace(loops={loop: letters.get(size, size) for loop, size in nest.loops.items()}) for nest in nests
        ]
        return ledger(tuple(lettered))["mac"]

    return (macs(rewrite(one)) / macs(one)).expand()


def _changed(network: Network, name: str, change: Change, layers: str | None, what: str) -> Network:
    """The network with some rows replaced, and what reads them reading the last of what replaces them."""
    report = analyze(network)
    pattern = _pattern(layers)
    ends: dict[str, str] = {}
    nodes: list[Node] = []
    replaced: list[Row] = []
    for row in report:
        inputs = tuple(ends.get(source, source) for source in row.node.inputs)
        parts = change(row) if row.sources and pattern.search(row.name) else ()
        if not parts:
            nodes.append(replace(row.node, inputs=inputs))
            continue
        replaced.append(row)
        for part, layer in parts:
            inside = part.startswith(f"{row.name}.")
            nodes.append(Node(part, layer, inputs, (*row.node.blocks, row.name) if inside else row.node.blocks))
            inputs = (part,)
        ends[row.name] = parts[-1][0]
    if not replaced:
        among = f" among those that match {layers!r}" if layers else ""
        raise SpecError(f"{network.name}: {name} applies to no layer: there is not {what}{among}")
    _unshared(report.rows, {row.name for row in replaced})
    outputs = tuple(ends.get(output, output) for output in network.outputs)
    suffix = f"{name}@{layers}" if layers else name
    return replace(network, name=f"{network.name}+{suffix}", nodes=tuple(nodes), outputs=outputs)


def _chain(
    row: Row, between: Callable[[Row], Sequence[Layer]], parts: Sequence[tuple[str, Any]]
) -> list[tuple[str, Layer]]:
    """The parts in the row's place, between them what follows the row."""
    chain: list[tuple[str, Layer]] = []
    followers = between(row)
    for i, (part, layer) in enumerate(parts, start=1):
        chain.append((f"{row.name}.{part}", layer))
        if i < len(parts):
            names = ("bn" if isinstance(one, BATCH_NORMS) else one.kind.lower() for one in followers)
            chain += [(f"{row.name}.{name}{i}", one) for name, one in zip(names, followers, strict=True)]
    return chain


def _between(network: Network) -> Callable[[Row], Sequence[Layer]]:
    """For a row the batch norm and the activation that follow it, where nothing else reads it."""
    readers = _readers(network)

    def followers(row: Row) -> Sequence[Layer]:
        found: list[Layer] = []
        name = row.name
        for wanted in (_is_batch_norm, _is_activation):
            if len(readers[name]) == 1 and wanted(readers[name][0].layer):
                found.append(readers[name][0].layer)
                name = readers[name][0].name
        return found

    return followers


def _is_batch_norm(layer: Layer) -> bool:
    return isinstance(layer, BATCH_NORMS)


def _is_activation(layer: Layer) -> bool:
    return type(layer).__module__ == "archcalc.layers.activation" and layer.kind != "GLU"


def _readers(network: Network) -> dict[str, list[Node]]:
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in network:
        for name in node.inputs:
            readers[name].append(node)
    return readers


def _spatial(layer: Any) -> bool:
    """Whether the layer is a convolution of more than one place on all channels at once."""
    return isinstance(layer, CONVOLUTIONS) and prod(ints(layer.kernel_size)) > 1 and layer.groups == 1


def _depthwise(row: Row) -> bool:
    layer: Any = row.node.layer
    grouped = isinstance(layer, CONVOLUTIONS + TRANSPOSED)
    return grouped and layer.groups > 1 and bool(layer.groups == row.inputs[0][1])


def _share(padding: Any, index: int, count: int) -> Any:
    """What a convolution of a stack pads of the padding of all of them."""
    if isinstance(padding, str):
        return padding
    return tuple(one // count + (index < one % count) for one in padding)


def _widened(row: Row, inputs: tuple[Shape, ...], wide: Callable[[int], int]) -> Layer:
    layer: Any = row.node.layer
    if isinstance(layer, CONVOLUTIONS + TRANSPOSED):
        if _depthwise(row):
            channels = inputs[0][1]
            return replace(layer, groups=channels, out_channels=layer.out_channels // layer.groups * channels)
        return replace(layer, out_channels=wide(layer.out_channels))
    if isinstance(layer, Linear):
        return replace(layer, out_features=wide(layer.out_features))
    if isinstance(layer, PadChannels):
        return replace(layer, channels=max(wide(row.output[1]) - inputs[0][1], 1))
    if row.params and not layer.kind.startswith(_ADAPTING):
        raise SpecError(f"{row.name}: the width of {layer.kind} cannot be scaled")
    return row.node.layer


def _classifiers(report: Report) -> set[str]:
    """The last layer with weights before each output, where there is one such layer."""
    read = {name for row in report for name in row.node.inputs}
    kept: set[str] = set()
    for output in {*report.network.outputs, *(row.name for row in report if row.name not in read)}:
        found, waiting = set(), [output]
        while waiting:
            row = report[waiting.pop()]
            if row.weights:
                found.add(row.name)
            else:
                waiting += row.node.inputs
        if len(found) == 1:
            kept |= found
    return kept


def _unshared(rows: Sequence[Row], names: set[str] | None = None) -> None:
    """Raise SpecError where a layer that would change shares parameters with another."""
    for row in rows:
        for held in row.node.held:
            if held.counted_by and (names is None or names & {row.name, held.counted_by}):
                raise SpecError(f"{row.name} shares its {held.name} with {held.counted_by}; it cannot be rewritten")


def _pattern(layers: str | None) -> re.Pattern[str]:
    try:
        return re.compile(layers or "")
    except re.error as error:
        raise InputError(f"{layers!r} is not a regular expression: {error}") from None


def _parsed(name: str, annotation: str, text: str) -> Any:
    try:
        if len(text) > 20:
            raise ValueError
        if annotation == "float":
            above, _, below = text.partition("/")
            return float(above) / float(below or 1)
        return int(text) if annotation == "int" else text
    except (ValueError, ZeroDivisionError):
        wanted = {"int": "a whole number", "float": "a number, such as 0.5 or 1/2"}[annotation]
        raise InputError(f"{name}={text}: the value must be {wanted}") from None


def _at_least_1(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise InputError(f"{name} is {value!r}; it must be a whole number of at least 1")


def _positive(name: str, factor: float) -> None:
    if type(factor) not in (int, float) or not 0 < factor <= 1000:
        raise InputError(f"{name} is {factor!r}; it must be a number above 0, at most 1000")
