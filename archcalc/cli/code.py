"""`archcalc code`."""

from archcalc.cli.options import OneTarget
from archcalc.cli.output import FileOption, deliver


def code(target: OneTarget, *, file: FileOption = None) -> None:
    """Write the network as PyTorch source code, which runs on its own."""
    from archcalc.code import source

    chosen = target.resolve()
    deliver(source(chosen.network, chosen.shape), file)
