"""Conventions known from documents and source code: convnet-burden, netscope, Keras."""

from archcalc.analysis import Row
from archcalc.conventions.base import Cause, Convention, layer_of, of
from archcalc.extents import Extent, prod
from archcalc.layers import LocalResponseNorm
from archcalc.layers.base import ints

_POOLS = ("MaxPool2d", "AvgPool2d")
_BATCH_NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")


def _pool(row: Row) -> Extent:
    return 2 * prod(row.output) * prod(ints(layer_of(row).stride))  # type: ignore[attr-defined]


def _norm_factors(row: Row) -> Extent:
    N, C, *space = row.output
    return prod(row.output) + (2 + 2 * C) * N * prod(space)


def _squares(row: Row) -> Extent:
    layer = layer_of(row)
    assert isinstance(layer, LocalResponseNorm)
    return layer.size * prod(row.output)


def _bias(row: Row) -> Extent:
    return row.ledger.get("bias_add", 0)


CONVENTIONS = (
    Convention(
        "convnet-burden",
        "flops (convnet-burden)",
        "one for each MAC and bias, and a few for activations and pools",
        "albanie/convnet-burden, core/burden.m, 2017",
        causes=(
            Cause("bias, 1 an output element", _bias, "Adding the bias is one operation for each output."),
            Cause(
                "ReLU, 2 an element",
                of("ReLU", lambda row: 2 * prod(row.output)),
                "A ReLU is taken to be a comparison and a multiplication.",
            ),
            Cause(
                "pooling, 2·stride² an output element",
                of(_POOLS, _pool),
                "A pool is taken to cost two operations for each position that a step covers, whatever its kernel.",
            ),
            Cause(
                "local response norm",
                of("LocalResponseNorm", _norm_factors),
                "One operation for each element, and 2 + 2·C at each position for the factors.",
            ),
            Cause(
                "sum of branches, 1 an element",
                of("Add", lambda row: prod(row.output) * (len(row.inputs) - 1)),
                "Adding a shortcut is one operation for each element.",
            ),
        ),
        params="every parameter once, as memory",
        activations="outputs of all layers, as memory, for one image",
        units="MB are 2^20 bytes, G are 10^9",
    ),
    Convention(
        "netscope",
        "macc (netscope)",
        "multiply-accumulates; comparisons, additions, divisions and exponentials are columns of their own",
        "dgschwend/netscope, src/analyzer.coffee",
        causes=(
            Cause(
                "local response norm, its size an element",
                of("LocalResponseNorm", _squares),
                "Summing the squares of neighbouring channels is counted as multiply-accumulates.",
            ),
            Cause(
                "batch norm's scale, 1 an element",
                of(_BATCH_NORMS, lambda row: prod(row.output) if row.weights else 0),
                "In Caffe the scale of a batch norm is a layer of its own, one multiply-accumulate for each element.",
            ),
        ),
        activations="outputs of all layers, the whole batch, in-place ones too",
        units="k, M and G are powers of 1,000",
    ),
    Convention(
        "keras",
        "MACs",
        "parameters only: a model's summary counts no operations",
        "keras.Model.count_params, keras.layers.BatchNormalization, Keras 3",
        params="parameters and the moving mean and variance of batch norms",
        param_causes=(
            Cause(
                "moving mean and variance",
                of(_BATCH_NORMS, lambda row: row.buffers - 1 if row.buffers else 0),
                "Keras has a batch norm's mean and variance among the parameters, PyTorch has them as buffers.",
            ),
        ),
        units="MB are 2^20 bytes",
    ),
)
