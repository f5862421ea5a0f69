"""fvcore, which walks the graph that torch.jit traces."""

from archcalc.analysis import Row
from archcalc.conventions.base import Cause, Convention, layer_of, of
from archcalc.extents import Extent, prod
from archcalc.layers import BatchNorm2d, Conv2d


def _batch_norm(row: Row) -> Extent:
    layer = layer_of(row)
    assert isinstance(layer, BatchNorm2d)
    each = (2 if layer.affine else 1) if layer.track_running_stats else (5 if layer.affine else 4)
    return each * prod(row.output)


def _worded_padding(row: Row) -> Extent:
    layer = layer_of(row)
    return -row.macs if isinstance(layer, Conv2d) and layer.padding == "same" else 0


CONVENTIONS = (
    Convention(
        "fvcore",
        "flops (fvcore)",
        "one for each MAC, and some normalisation and pooling",
        "fvcore.nn.jit_handles, 0.1.5.post20221221",
        causes=(
            Cause("batch norm, by element", of("BatchNorm2d", _batch_norm)),
            Cause("adaptive pooling, 1 an input element", of("AdaptiveAvgPool2d", lambda row: prod(row.inputs[0]))),
            Cause('padding="same" not seen', of("Conv2d", _worded_padding)),
        ),
        package="fvcore",
    ),
)
