"""`archcalc compare`."""

from archcalc.cli.options import ConventionOption, Targets
from archcalc.cli.output import Output
from archcalc.compare import compare as compare_reports
from archcalc.compare import comparison_record


def compare(targets: Targets, convention: ConventionOption = "mac", *, output: Output) -> None:
    """Put networks side by side, with ratios and savings against the first."""
    reports = [target.report() for target in targets.resolve()]
    output.write(lambda: compare_reports(reports, convention), lambda: comparison_record(reports, convention))
