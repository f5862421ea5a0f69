"""The command line as a fixture. Hypothesis profiles: `ci` never changes; HYPOTHESIS_PROFILE=hunt looks further."""

import json
import os
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from archcalc.cli import main

settings.register_profile(
    "ci", max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("hunt", settings.get_profile("ci"), max_examples=2000, derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Runs the command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]):
        self.capsys = capsys

    def __call__(self, *arguments: str) -> Ran:
        status = 0
        try:
            main(arguments)
        except SystemExit as end:
            status = 0 if end.code is None else int(end.code)
        out, err = self.capsys.readouterr()
        return Ran(status, out, err)

    def ok(self, *arguments: str) -> str:
        ran = self(*arguments)
        assert (ran.status, ran.err) == (0, "")
        return ran.out

    def refused(self, *arguments: str) -> str:
        """The one message of a command that ends with status 2, without prefix."""
        ran = self(*arguments)
        assert (ran.status, ran.out) == (2, "")
        assert "Traceback" not in ran.err
        assert ran.err.startswith("archcalc: ")
        assert ran.err.count("archcalc: ") == 1
        assert ran.err.count("\n") == 1, ran.err
        return ran.err.removeprefix("archcalc: ").rstrip("\n")


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)
