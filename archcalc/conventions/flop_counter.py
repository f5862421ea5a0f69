"""PyTorch's own FlopCounterMode."""

from archcalc.conventions.base import Convention

CONVENTIONS = (
    Convention(
        "torch", "MACs (torch)", "FlopCounterMode, halved", "torch.utils.flop_counter, torch 2.15", package="torch"
    ),
)
