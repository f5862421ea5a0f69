"""torchscan, which has a formula for each class of module and hooks those without submodules."""

from __future__ import annotations

from archcalc.analysis import Row
from archcalc.conventions.base import Amount, Cause, Convention, functions, layer_of, modules, of, run_by
from archcalc.conventions.unbatched import axes, unbatched
from archcalc.extents import Extent, exact_div, prod
from archcalc.layers.base import ints
from archcalc.layers.operation import Parameter

_RANKS = (1, 2, 3)
_BATCH_NORMS = {f"BatchNorm{rank}d" for rank in _RANKS}
_TRANSPOSED = {f"ConvTranspose{rank}d" for rank in _RANKS}
_WEIGHED = {"Linear", *(f"Conv{rank}d" for rank in _RANKS), *_TRANSPOSED}


def _layers(kind: str) -> set[str]:
    return {f"{kind}{rank}d" for rank in _RANKS}


def _module(kinds: set[str], amount: Amount) -> Amount:
    """An amount on modules of these kinds and of classes derived from them."""
    seen = of(kinds, amount)

    def counted(row: Row) -> Extent:
        alone = unbatched(row)
        if _whole(row) or (functions(row) and not run_by(row) and not alone):
            return 0
        return (amount(row) if alone.module[9:] in kinds else 0) if alone else seen(row)

    return counted


def _whole(row: Row) -> bool:
    """Whether the row lies in an nn.Transformer that is counted as one module, which has no formula."""
    return modules(row)[0] == "torch.nn.Transformer"


def _unseen(row: Row) -> Extent:
    return -row.macs if functions(row) and not run_by(row) and not unbatched(row) else 0


def _unknown(row: Row) -> Extent:
    return 0 if functions(row) or (row.kind in _WEIGHED and not _whole(row)) else -row.macs


def _batch_norm(row: Row) -> Extent:
    return (2 if getattr(layer_of(row), "affine", True) else 1) * prod(row.inputs[0])


def _size_for_channels(row: Row) -> Extent:
    """What an image without a batch counts beyond its multiply-adds: the second axis is taken for the channels."""
    alone = unbatched(row)
    if not alone or not row.macs or _whole(row):
        return 0
    each = alone.given[1] // getattr(layer_of(row), "groups", 1) * _taps(row)
    padding = 4 * len(_kernel(row)) if alone.module[9:] in _TRANSPOSED else 0
    return padding + prod(alone.output) * each - row.macs


def _subclass(row: Row) -> Extent:
    """What a subclass with a forward of its own counts: by its weight, and by what its calls put out."""
    origin = row.node.origin
    own = isinstance(row.node.layer, Parameter) and row.name.rpartition(".")[2] == "weight"
    if origin is None or not own or origin.base == origin.modules[-1]:
        return 0
    name, weight = origin.base.removeprefix("torch.nn."), row.node.held[0].shape
    if name in _BATCH_NORMS:
        return 2 * sum(map(prod, origin.calls))
    if name not in _WEIGHED:
        return 0
    each = exact_div(prod(weight), weight[1] if name in _TRANSPOSED else weight[0])
    return sum(prod(output) * each + (4 * (len(weight) - 2) if name in _TRANSPOSED else 0) for output in origin.calls)


def _transposed(row: Row) -> Extent:
    if unbatched(row):
        return 0
    x, layer = row.inputs[0], layer_of(row)
    each = exact_div(x[1], getattr(layer, "groups", 1)) * _taps(row)
    return 4 * (len(x) - 2) + prod(row.output) * each - row.macs


def _taps(row: Row) -> int:
    """Elements of a window."""
    return int(prod(_kernel(row)))


def _kernel(row: Row) -> tuple[int, ...]:
    return ints(getattr(layer_of(row), "kernel_size", ()))


def _side(row: Row) -> int:
    """Elements that torchscan takes a window to have: the side, where the module was given one number."""
    origin = row.node.origin
    one_size = origin is not None and origin.one_size
    return _kernel(row)[-1] if one_size else _taps(row)


def _averaged(row: Row) -> Extent:
    return prod(row.output) * (_taps(row) + len(axes(row)[0]) - 3)


def _window(row: Row) -> Extent:
    """Elements that torchscan takes a window of adaptive pooling to have."""
    sizes = zip(*(shape[2:] for shape in axes(row)), strict=True)
    return prod(size // out if size % out == 0 else size % out + 1 for size, out in sizes)


_ONE_NUMBER = "A window whose size is given as one number is taken to have that many elements, 3 instead of 3·3."

CONVENTIONS = (
    Convention(
        "torchscan",
        "MACs (torchscan)",
        "multiply-adds of convolutions and fully connected layers, and operations of batch norm and pooling",
        "torchscan.modules.macs, 0.2.0",
        causes=(
            Cause(
                "batch norm, 2 an element",
                _module(_BATCH_NORMS, _batch_norm),
                because="One multiply-add normalises an element, another scales and shifts it where the layer does.",
            ),
            Cause(
                "max pooling, 1 a comparison",
                _module(_layers("MaxPool"), lambda row: prod(row.output) * (_taps(row) - 1)),
                because="The largest of k elements takes k - 1 comparisons, which are counted like multiply-adds.",
            ),
            Cause(
                "average pooling, 1 an operation",
                _module(_layers("AvgPool"), _averaged),
                because="The mean of k elements takes k - 1 additions and one division for each axis of the image.",
            ),
            Cause(
                "pooling windows of one number taken for a row",
                _module(
                    _layers("MaxPool") | _layers("AvgPool"), lambda row: prod(row.output) * (_side(row) - _taps(row))
                ),
                because=_ONE_NUMBER,
                defect=True,
            ),
            Cause(
                "adaptive average pooling, 1 an operation",
                _module(
                    _layers("AdaptiveAvgPool"),
                    lambda row: prod(row.output) * (_window(row) + len(axes(row)[0]) - 3),
                ),
                because="The mean of k elements takes k - 1 additions and one division for each axis of the image. A "
                "window's side is taken to be the input's by the output's, where that does not divide the remainder "
                "and one.",
            ),
            Cause(
                "adaptive max pooling, 1 a comparison",
                _module(_layers("AdaptiveMaxPool"), lambda row: prod(row.output) * (_window(row) - 1)),
                because="The largest of k elements takes k - 1 comparisons; windows are as in adaptive averages.",
            ),
            Cause(
                "transposed convolution counted on the output grid",
                _module(_TRANSPOSED, _transposed),
                because="A transposed convolution multiplies each input element with the kernel; here each output "
                "element is taken to need the whole kernel, and four operations an axis are added for the padding.",
                defect=True,
            ),
            Cause(
                "image without a batch, its size taken for channels",
                _size_for_channels,
                because="A convolution's channels are read off the second axis; without a batch that is the height, "
                "or the length.",
                defect=True,
            ),
            Cause(
                "subclass counted by its class",
                _subclass,
                because="A module whose class derives from a layer counts by that layer's formula, with the sizes it "
                "puts out, whatever its own forward does.",
                defect=True,
            ),
            Cause(
                "functional call not seen",
                _unseen,
                because="Only modules are hooked: what a forward method computes itself is not counted.",
                defect=True,
            ),
            Cause(
                "layer without a formula",
                _unknown,
                because="Modules without a formula, such as recurrent and bilinear layers, count 0 (with a warning).",
            ),
        ),
        units="multiples of 1000; memory in MiB, called Mb",
    ),
)
