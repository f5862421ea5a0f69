"""fvcore, which walks the graph that torch.jit traces."""

from archcalc.analysis import Row
from archcalc.conventions.base import Cause, Convention, layer_of, of
from archcalc.extents import Extent, prod
from archcalc.layers import BatchNorm1d, BatchNorm2d, BatchNorm3d, Conv2d


def _batch_norm(row: Row) -> Extent:
    layer = layer_of(row)
    if not isinstance(layer, BatchNorm1d | BatchNorm2d | BatchNorm3d):
        return 0
    each = (2 if layer.affine else 1) if layer.track_running_stats else (5 if layer.affine else 4)
    return each * prod(row.output)


def _worded_padding(row: Row) -> Extent:
    layer = layer_of(row)
    return -row.macs if isinstance(layer, Conv2d) and layer.padding == "same" else 0


def _products(row: Row) -> Extent:
    """The MACs between activations, negative."""
    fused = (nest for nest in row.nests if "mac" in nest.ops and all(one.role != "weight" for one in nest.operands))
    return -sum(nest.iterations for nest in fused)


CONVENTIONS = (
    Convention(
        "fvcore",
        "flops (fvcore)",
        "one for each MAC, and some normalisation and pooling",
        "fvcore.nn.jit_handles, 0.1.5.post20221221",
        causes=(
            Cause("batch norm, by element", _batch_norm),
            Cause("adaptive pooling, 1 an input element", of("AdaptiveAvgPool2d", lambda row: prod(row.inputs[0]))),
            Cause(
                "layer norm, by element",
                of("LayerNorm", lambda row: (5 if row.params else 4) * prod(row.output)),
            ),
            Cause(
                "fused attention not seen",
                of("MultiheadAttention", _products),
                because="There is no rule for aten::scaled_dot_product_attention.",
            ),
            Cause('padding="same" not seen', of("Conv2d", _worded_padding)),
        ),
        package="fvcore",
    ),
)
