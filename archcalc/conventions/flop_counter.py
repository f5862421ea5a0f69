"""PyTorch's own FlopCounterMode."""

from archcalc.conventions.base import Cause, Convention, of

CONVENTIONS = (
    Convention(
        "torch",
        "MACs (torch)",
        "FlopCounterMode, halved",
        "torch.utils.flop_counter, torch 2.15",
        causes=(
            Cause(
                "products with a vector not seen",
                of(("mv", "dot", "vdot", "addmv"), lambda row: -row.macs),
                "It has formulas for products of two matrices; a matrix times a vector is another operation.",
            ),
            Cause(
                "products by groups of rows not seen",
                of("grouped_mm", lambda row: -row.macs),
                "It has no formula for torch's grouped_mm, by which experts multiply the rows that are theirs.",
            ),
            Cause(
                "bilinear layers not seen",
                of("Bilinear", lambda row: -row.macs),
                "It has no formula for the operation that runs a bilinear layer.",
            ),
        ),
        params="not counted",
    ),
)
