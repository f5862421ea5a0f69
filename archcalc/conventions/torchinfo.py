"""torchinfo, which multiplies the parameters of modules with the sizes of their outputs."""

from archcalc.conventions.base import Cause, Convention, of

_NORMALISATIONS = {"BatchNorm1d", "BatchNorm3d", "GroupNorm", "LayerNorm", "RMSNorm"}

CONVENTIONS = (
    Convention(
        "torchinfo",
        "mult-adds (torchinfo)",
        "parameters times output positions",
        "torchinfo.layer_info, 1.8.0",
        causes=(
            Cause("bias, 1 an output element", lambda row: row.ledger.get("bias_add", 0)),
            Cause(
                "batch norm, its parameters once an image",
                of("BatchNorm2d", lambda row: row.output[0] * row.params),
            ),
            Cause(
                "other normalisation, its parameters once an image",
                lambda row: row.output[0] * row.params if row.kind in _NORMALISATIONS else 0,
                because="The parameters are multiplied with the size of the first axis only.",
            ),
            Cause(
                "tokens after the first of a fully connected layer",
                of("Linear", lambda row: row.output[0] * row.params - row.macs - row.ledger.get("bias_add", 0)),
                because="The parameters are multiplied with the size of the first axis only.",
                defect=True,
            ),
            Cause(
                "attention not seen",
                of("MultiheadAttention", lambda row: -row.macs - row.ledger.get("bias_add", 0)),
                because="It is a module with a submodule that it does not call, and only leaves are counted.",
                defect=True,
            ),
        ),
        package="torchinfo",
    ),
)
