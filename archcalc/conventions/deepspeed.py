"""DeepSpeed's flops profiler, which patches torch's functions."""

from archcalc.conventions.base import Convention
from archcalc.conventions.patched import FUSED_ATTENTION, MATMUL, shared_causes

_PRODUCTS = {
    *MATMUL,
    *("Tensor.__matmul__", "mm", "Tensor.mm", "bmm", "Tensor.bmm"),
    *("addmm", "Tensor.addmm", "baddbmm", FUSED_ATTENTION),
}

CONVENTIONS = (
    Convention(
        "deepspeed",
        "MACs (DeepSpeed)",
        "one for each multiply-add of convolutions, fully connected layers and matrix products",
        "deepspeed.profiling.flops_profiler, 0.19.8",
        causes=shared_causes(_PRODUCTS),
        units="multiples of 1000 (KMACs, MMACs, GMACs)",
    ),
)
