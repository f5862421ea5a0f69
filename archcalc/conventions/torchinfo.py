"""torchinfo, which multiplies the parameters of modules with the sizes of their outputs."""

from archcalc.conventions.base import Cause, Convention, of

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
        ),
        package="torchinfo",
    ),
)
