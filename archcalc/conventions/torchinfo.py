"""torchinfo, which multiplies the parameters of modules without submodules with the sizes of their outputs.

Of a parameter called weight or bias, each element counts once for every image and, in classes with "Conv" in their
name, every output position; of one with weight or bias in its name, once for every element of the output's first two
axes. What a module computes is not looked at.

What no cause says: a tied parameter that is counted again is taken off what the module around both holds itself or
does not run, down to 0; parameters that an old-style hook renames (weight_orig) are looked for under their new names.
"""

from collections.abc import Iterator

from archcalc.analysis import Row
from archcalc.conventions.base import Cause, Convention, functions, module, tied
from archcalc.extents import Extent, Shape, prod
from archcalc.layers.operation import Parameter, Unused

_BIASED = ("Conv", "Linear")
_RECURRENT = ("RNN", "LSTM", "GRU")


def parameters(row: Row) -> Iterator[tuple[str, str, Shape]]:
    """Name, role and shape of a layer's parameters, whether or not another row counts them."""
    for nest in row.nests:
        for operand in nest.operands:
            if operand.role in ("weight", "bias"):
                yield operand.name, operand.role, nest.shape(operand)


def _times(name: str, kind: str, output: Shape) -> Extent:
    """How often each element of a parameter of this name counts."""
    if name in ("weight", "bias"):
        return prod((*output[:1], *output[2:])) if "Conv" in kind else output[0]
    return prod(output[:2]) if "weight" in name or "bias" in name else 0


def _theirs(row: Row, role: str) -> Extent:
    """What the parameters of a layer with this role count."""
    kind = module(row).rpartition(".")[2]
    if not kind or row.kind == "MultiheadAttention":
        return 0
    return sum(
        _times(name, kind, row.output) * prod(shape) for name, of_role, shape in parameters(row) if of_role == role
    )


def _weights(row: Row) -> Extent:
    return _theirs(row, "weight") - row.macs if module(row) else 0


def _bias(row: Row) -> Extent:
    return _theirs(row, "bias") if row.kind.startswith((*_BIASED, "Bilinear", *_RECURRENT, "TableConv")) else 0


def _normalisation(row: Row) -> Extent:
    return _theirs(row, "weight") + _theirs(row, "bias") if "Norm" in row.kind else 0


def _batch_norm(row: Row) -> Extent:
    return _normalisation(row) if row.kind.startswith("BatchNorm") else 0


def _other_norm(row: Row) -> Extent:
    return 0 if row.kind.startswith("BatchNorm") else _normalisation(row)


def _transposed(row: Row) -> Extent:
    return _weights(row) if row.kind.startswith("ConvTranspose") else 0


def _tokens(row: Row) -> Extent:
    return _weights(row) if row.kind == "Linear" else 0


def _cells(row: Row) -> Extent:
    return _weights(row) if row.kind.startswith(_RECURRENT) else 0


def _others(row: Row) -> Extent:
    known = ("Conv", "Linear", "MultiheadAttention", *_RECURRENT)
    if row.kind.startswith(known) or "Norm" in row.kind:
        return _weights(row) if row.kind.startswith("Conv") and not row.kind.startswith("ConvTranspose") else 0
    return _weights(row)


def _functions(row: Row) -> Extent:
    return -row.macs if functions(row) or row.kind == "MultiheadAttention" else 0


def _own(row: Row) -> Extent:
    """Of a module without submodules that is no layer: what its own parameters count in all of its calls."""
    origin = row.node.origin
    if origin is None or row.kind == "Buffer" or not isinstance(row.node.layer, Parameter | Unused):
        return 0
    kind, name = origin.modules[-1].rpartition(".")[2], row.name.rpartition(".")[2]
    named = [(name if isinstance(row.node.layer, Parameter) else held.name, held.shape) for held in row.node.held]
    return sum(_times(name, kind, output) * prod(shape) for output in origin.calls for name, shape in named)


def _by_each_parent(row: Row) -> Extent:
    origin = row.node.origin
    return origin.parents * (row.params + tied(row)) if origin and module(row) else 0


CONVENTIONS = (
    Convention(
        "torchinfo",
        "mult-adds (torchinfo)",
        "parameters times output positions",
        "torchinfo.layer_info, 1.8.0",
        causes=(
            Cause(
                "bias, 1 an output element",
                _bias,
                "Biases are parameters too, so that each is counted as often as a weight: one for each output.",
            ),
            Cause(
                "batch norm, its parameters once an image",
                _batch_norm,
                "A batch norm's parameters are multiplied with the number of images, whatever their size.",
            ),
            Cause(
                "normalisation, its parameters once an image",
                _other_norm,
                "A norm's parameters are multiplied with the size of the first axis only.",
            ),
            Cause(
                "tokens beyond the first axis not counted",
                _tokens,
                "A linear layer's parameters are multiplied with the size of the first axis only, not with its tokens.",
                defect=True,
            ),
            Cause(
                "transposed convolution counted on the output grid",
                _transposed,
                "A transposed convolution multiplies every input, not every output, with its kernel.",
                defect=True,
            ),
            Cause(
                "recurrent cells counted for each feature",
                _cells,
                "The features of a single step are taken for the steps of a sequence.",
                defect=True,
            ),
            Cause(
                "parameters of other layers",
                _others,
                "The parameters are multiplied with the size of the first axis, whatever is done with them.",
                defect=True,
            ),
            Cause(
                "parameters of modules of other classes",
                _own,
                "A parameter called weight or bias counts whatever the module does with it.",
                defect=True,
            ),
            Cause(
                "functional call not seen",
                _functions,
                "Only modules without submodules are counted, so not what is a function of PyTorch, nor attention.",
                defect=True,
            ),
        ),
        params="those of every module that runs, and what remains of its parents'",
        param_causes=(
            Cause(
                "tied parameters counted again",
                tied,
                "A parameter that two modules share is counted in each of them.",
                defect=True,
            ),
            Cause(
                "a module with several parents counted again",
                _by_each_parent,
                "It is listed below none of its parents, so that each counts its parameters as its own.",
                defect=True,
            ),
        ),
        activations="outputs of leaf modules, as memory and twice, for the gradients",
        units="MB are 10^6 bytes, G are 10^9",
    ),
)
