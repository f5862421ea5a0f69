"""MACs and FLOPs as archcalc counts them."""

from archcalc.conventions.base import Convention

CONVENTIONS = (
    Convention("mac", "MACs", "one multiply and one add together", "Sze et al. 2017, section 3.2"),
    Convention("flop", "FLOPs", "two for each MAC", "torch.utils.flop_counter", factor=2),
)
