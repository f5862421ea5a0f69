"""calflops, which patches torch's functions as DeepSpeed's profiler once did."""

from archcalc.analysis import Row
from archcalc.conventions.base import Cause, Convention, layer_of
from archcalc.conventions.patched import MATMUL, further_ways, shared_causes
from archcalc.extents import Extent
from archcalc.layers import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d

_SHARED = shared_causes({*MATMUL, "addmm", "Tensor.addmm", "baddbmm"})


def _grouped_twice(row: Row) -> Extent:
    layer = layer_of(row)
    if not isinstance(layer, ConvTranspose1d | ConvTranspose2d | ConvTranspose3d):
        return 0
    filters = layer.out_channels // layer.groups
    return row.macs // filters * (filters // layer.groups) - row.macs


_GROUPED = Cause(
    "transposed convolution, groups divided out twice",
    _grouped_twice,
    because="The weight has the output channels of one group already, which are divided by the groups once more.",
    defect=True,
)


def _counted(row: Row) -> Extent:
    return sum((cause.amount(row) for cause in (*_SHARED, _GROUPED)), start=row.macs)


CONVENTIONS = (
    Convention(
        "calflops",
        "MACs (calflops)",
        "one for each multiply-add of convolutions, fully connected layers and matmul",
        "calflops.pytorch_ops, 0.3.2",
        causes=(
            *_SHARED,
            _GROUPED,
            Cause(
                "module counted again under each parent",
                further_ways(_counted),
                because="What a module counted is added up from the root down, for each parent that holds it.",
                defect=True,
            ),
        ),
        params="parameters that are trained, each once",
        param_causes=(
            Cause(
                "frozen parameters not counted",
                lambda row: -row.frozen,
                because="Only parameters that are trained (requires_grad) are counted.",
            ),
        ),
        units="multiples of 1000 (KMACs, MMACs, GMACs)",
    ),
)
