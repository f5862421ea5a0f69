"""What a tool counts beyond its convention."""

from torch import Tensor, nn

from archcalc.conventions import convention
from archcalc.errors import CheckError
from archcalc.pytorch.counters import COUNTERS
from archcalc.pytorch.why import why
from tests import counted

Remainders = tuple[int | None, int | None]
"""MACs and parameters; no parameters where the tool counts none."""


def remainders(tool: str, module: nn.Module, *inputs: Tensor) -> Remainders:
    """What a tool counts in a module beyond its convention."""
    (account,) = why(module.eval(), inputs, [tool]).accounts
    assert not account.failed, account.failed
    return account.remainder, account.params_remainder


def of_small_modules(tool: str) -> dict[str, Remainders | str]:
    """The remainders of small modules and networks by name, where there are any, or why the tool fails."""
    rule = convention(tool)
    found: dict[str, Remainders | str] = {}
    for name, module, inputs, report in counted._traced():
        try:
            theirs = COUNTERS[tool].here(module, inputs, {})
        except CheckError as error:
            found[name] = str(error)
            continue
        beyond = theirs.total - sum(map(rule.count, report.rows))
        params = None if theirs.params is None else theirs.params - sum(map(rule.count_params, report.rows))
        if beyond or params:
            found[name] = (beyond, params)
    return found
