"""`archcalc export`."""

from archcalc.cli.options import OneTarget
from archcalc.cli.output import FileOption, deliver


def export(target: OneTarget, *, file: FileOption = None) -> None:
    """Write the network as a spec file (YAML), which every command takes as TARGET."""
    from archcalc.specfile import dumps

    chosen = target.resolve()
    deliver(dumps(chosen.network, chosen.shape), file)
