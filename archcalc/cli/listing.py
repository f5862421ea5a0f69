"""`archcalc list`."""

from archcalc.catalogue import catalogue, catalogue_record
from archcalc.cli.output import Output


def listing(output: Output) -> None:
    """List the networks of the zoo with their parameters, MACs and choices."""
    output.write(catalogue, catalogue_record)
