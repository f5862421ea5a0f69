"""Operations of torch by name, and the layer that states what each computes: what runs outside of known modules."""

from archcalc.pytorch.operations import compute, layer, move  # noqa: F401 - where rules are registered
from archcalc.pytorch.operations.calls import RULES, Call, Rule, layer_of, operation
from archcalc.pytorch.operations.move import PARTS

__all__ = ["PARTS", "RULES", "Call", "Rule", "layer_of", "operation"]
