"""What a convention is: a named projection of a layer's ledger onto one number, with the causes that make it differ.

A convention counts `factor` for each MAC and adds what its causes say. The difference between two conventions is
therefore itemised by cause, to the last unit. Causes look at a row: its ledger, its shapes, its layer's fields, and,
since a tool sees only what it hooks or patches, the modules and functions of torch that run it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

from archcalc.analysis import Row
from archcalc.extents import Extent, prod
from archcalc.layers import Input, Layer
from archcalc.layers.operation import Baked, Constant, Functional, Parameter, Unbatched, Unused

Amount: TypeAlias = Callable[[Row], Extent]


@dataclass(frozen=True)
class Cause:
    """A reason why a convention counts more (or less) than MACs, and by how much on a given row.

    `because` explains it in a sentence to someone who has not met it before.
    """

    name: str
    amount: Amount
    because: str = ""
    defect: bool = False  # the tool leaves out what it says it counts, or counts it wrongly


@dataclass(frozen=True)
class Convention:
    """A way of counting: `factor` for each MAC and what the causes add; in words, what is done with all else.

    `param_causes` say likewise what is added to the parameters.
    """

    name: str
    header: str
    meaning: str
    source: str
    factor: int = 1
    causes: tuple[Cause, ...] = ()
    params: str = "every parameter once"
    param_causes: tuple[Cause, ...] = ()
    activations: str = "not counted"
    units: str = "plain numbers"

    def count(self, row: Row) -> Extent:
        """The number of one row."""
        return sum((cause.amount(row) for cause in self.causes), start=self.factor * row.macs)

    def count_params(self, row: Row) -> Extent:
        """The parameters of one row."""
        return sum((cause.amount(row) for cause in self.param_causes), start=row.params)


def layer_of(row: Row) -> Layer:
    """The layer that states a row's cost, whether a module's or a function's."""
    layer = row.node.layer
    while isinstance(layer, Functional | Baked | Unbatched):
        layer = layer.layer
    return layer


def modules(row: Row) -> tuple[str, ...]:
    """Classes of the modules a row lies in, outermost first; a layer of a spec is its own, torch's of its kind."""
    origin = row.node.origin
    return origin.modules if origin else (f"torch.nn.{row.kind}",)


def functions(row: Row) -> tuple[str, ...]:
    """The functions of torch that run a row, outermost first; none where a module is the layer."""
    origin = row.node.origin
    return origin.functions if origin else ()


def module(row: Row) -> str:
    """The class of the module that a row is a call of; "" for a function's call, and for what no call makes."""
    held = isinstance(row.node.layer, Input | Parameter | Constant | Unused)
    return "" if held or functions(row) else modules(row)[-1]


def function(row: Row) -> str:
    """The innermost function of torch that runs a row, without the class or namespace it is found in; "" if none."""
    called = functions(row)
    return called[-1].rpartition(".")[2] if called else ""


_RUNS = {
    "torch.nn.Linear": "functional.linear",
    **{f"torch.nn.Conv{rank}d": f"conv{rank}d" for rank in (1, 2, 3)},
    **{f"torch.nn.ConvTranspose{rank}d": f"conv_transpose{rank}d" for rank in (1, 2, 3)},
}


def run_by(row: Row) -> str:
    """The class of a module whose own function a row is, as where a hook computes its weight (weight_norm); "" if none.

    Of images without a batch, which tools take for what they are not (`unbatched` says what), it is "" too.
    """
    name, called = modules(row)[-1], functions(row)
    if not row.macs or called != (_RUNS.get(name),):
        return ""
    first = row.sources[0]
    while first.kind == "constant_pad_nd" and functions(first) == called:
        first = first.sources[0]
    unbatched = first.kind == "unsqueeze" and functions(first) == called
    return "" if unbatched else name


def same_call(one: Row, other: Row) -> bool:
    """Whether one call of a function runs both rows."""
    a, b = one.node.origin, other.node.origin
    return a is not None and b is not None and bool(a.functions) and (a.functions, a.call) == (b.functions, b.call)


_MOVES = ("view", "_unsafe_view", "clone", "expand", "unsqueeze", "transpose", "t")


def stretched(row: Row) -> Extent:
    """What elements of a matmul's first operand times the last size of its second are beyond its MACs.

    Tools take that for the MACs, which is wrong where one is repeated for the other's batch, or is a vector. Where the
    first is a vector or a matrix that is trained, PyTorch lays the second out as one matrix, transposed, and multiplies
    that with the first.
    """
    if not row.macs:
        return 0
    branches = []
    for source in row.sources:
        kinds = set()
        while source.kind in _MOVES and same_call(source, row):
            kinds.add(source.kind)
            source = source.sources[0]
        branches.append((source.output, kinds))
    (first, of_first), (second, of_second) = branches[0], branches[-1]
    if "t" in of_second or (row.kind == "mv" and "transpose" in of_first):
        first, second = second, first
    return prod(first) * second[-1] - row.macs


def tied(row: Row) -> Extent:
    """Elements of a module's parameters that are those of another module too, which has counted them."""
    if not module(row) or ":" in row.name:
        return 0
    parameters = {one.name for nest in row.nests for one in nest.operands if one.role in ("weight", "bias")}
    shared = [one for one in row.node.held if one.counted_by and one.name in parameters]
    return sum(prod(one.shape) for one in shared if one.counted_by not in (row.name, f"{row.name}.{one.name}"))


def ways(row: Row) -> int:
    """By how many ways from the root the module of a row is reached: more than one where it has several parents."""
    origin = row.node.origin
    return origin.ways if origin else 1


def of(kinds: str | Collection[str], amount: Amount) -> Amount:
    """An amount on rows of these kinds, 0 on others."""
    wanted = {kinds} if isinstance(kinds, str) else frozenset(kinds)
    return lambda row: amount(row) if row.kind in wanted else 0
