"""What was published about LeNet-5, and about Caffe's LeNet."""

from __future__ import annotations

from archcalc.analysis import Report, Row
from archcalc.working import Worked, summand
from archcalc.zoo.figures import Cause, Count, Figure, block, elements, of_block, table, total

PAPER = "LeCun et al. 1998, section II.B"
CONVENTION = "every input of every unit, biases too"


def wires(row: Row) -> int:
    """Connections of a layer: its multiplications and additions of biases; of a mean what it sums, of distances all."""
    if row.kind == "AvgPool2d":
        return elements(row.sources[0])
    if row.kind == "RBF":
        return int(row.buffers)
    return int(row.ledger.get("bias_add", 0)) + (0 if row.name.endswith(".scale") else int(row.macs))


def connections(name: str) -> Count:
    """Connections of a layer, or of a block."""
    return lambda report: sum(map(wires, block(report, name)))


def all_connections(report: Report) -> Worked:
    """Connections layer by layer."""
    first, *rest = (summand(connections(name)(report)) for name in ("c1", "s2", "c3", "s4", "c5", "f6", "output"))
    return sum(rest, start=first)


FIGURES: tuple[Figure, ...] = (
    *table(
        "lenet5",
        PAPER,
        "weights and biases that are trained",
        ("parameters of C1", "156", of_block("c1", "params")),
        ("parameters of S2", "12", of_block("s2", "params")),
        ("parameters of C3", "1,516", of_block("c3", "params")),
        ("parameters of S4", "32", of_block("s4", "params")),
        ("parameters of F6", "10,164", of_block("f6", "params")),
        ("parameters", "60,000", total("params")),
    ),
    *table(
        "lenet5",
        PAPER,
        CONVENTION,
        ("connections of C1", "122,304", connections("c1")),
        ("connections of S2", "5,880", connections("s2")),
        ("connections of C3", "151,600", connections("c3")),
        ("connections of S4", "2,000", connections("s4")),
        ("connections of C5", "48,120", connections("c5")),
        ("connections", "340,908", all_connections),
    ),
    *table("lenet5", "Sze et al. 2017, section 3.2", "", ("weights", "60k", total("weights"))),
    *table(
        "lenet5",
        "Sze et al. 2017, section 3.2",
        "multiply-adds",
        ("MACs", "341k", total("macs"), Cause("LeCun's connections, not multiply-adds", all_connections)),
    ),
    *table(
        "lenet-caffe",
        "Sze et al. 2017, table II, footnote",
        "",
        ("weights", "431k", total("weights")),
        ("MACs", "2.3M", total("macs")),
    ),
)
