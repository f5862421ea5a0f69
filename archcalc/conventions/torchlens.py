"""torchlens, which records every call of a function of torch and looks it up in a table of formulas.

What no cause says: an einsum with an ellipsis, or of three operands, is unknown to it; it is named among those without
a formula.
"""

from archcalc.analysis import Row
from archcalc.conventions.base import Cause, Convention, function, functions
from archcalc.extents import Extent
from archcalc.layers.operation import Parameter

_TABLE = {
    *("mm", "matmul", "bmm", "addmm", "addbmm", "baddbmm", "linear", "einsum", "scaled_dot_product_attention"),
    *(f"conv{transposed}{rank}d" for transposed in ("", "_transpose") for rank in (1, 2, 3)),
}
_BY_PARAMETER = {"linear", *(f"conv{transposed}{rank}d" for transposed in ("", "_transpose") for rank in (1, 2, 3))}
_LAYERS = {
    *("Linear", "TableConv2d", "MultiheadAttention"),
    *(f"Conv{transposed}{rank}d" for transposed in ("", "Transpose") for rank in (1, 2, 3)),
}


def _no_formula(row: Row) -> Extent:
    seen = function(row) in _TABLE if functions(row) else row.kind in _LAYERS
    return 0 if seen else -row.macs


def _computed(row: Row) -> Extent:
    if row.kind == "TableConv2d":  # it runs as a convolution with its weights under another shape
        return -row.macs
    if function(row) not in _BY_PARAMETER or not row.macs:
        return 0
    weight = row.sources[1] if row.kind != "addmm" else row.sources[2]
    while weight.kind in ("t", "expand", "view") and functions(weight)[:1] == functions(row)[:1]:
        weight = weight.sources[0]
    return 0 if isinstance(weight.node.layer, Parameter) else -row.macs


CONVENTIONS = (
    Convention(
        "torchlens",
        "MACs (torchlens)",
        "multiply-adds of the functions it has a formula for",
        "torchlens.capture.flops, 2.36.1",
        causes=(
            Cause(
                "operations without a formula",
                _no_formula,
                "Recurrent layers, bilinear layers and products with a vector are not in its tables; it names them.",
            ),
            Cause(
                "weights that are computed not seen",
                _computed,
                "The formulas of convolutions and linear layers read their size off parameters; a weight that is no "
                "parameter, such as a part of one, makes them unknown.",
            ),
        ),
    ),
)
