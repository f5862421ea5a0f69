"""Counters in processes of their own, for those that patch torch: one process a counter, asked over its standard input.

A request is a line of JSON that names a file with the module and its arguments; the answer is a line of JSON.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from archcalc.errors import ArchcalcError, CheckError
from archcalc.pytorch.counters.base import Arguments, Counted

_RUNNING: dict[str, subprocess.Popen[str]] = {}


def ask(name: str, module: nn.Module, args: Arguments, kwargs: dict[str, Any]) -> Counted:
    """What a counter in its own process says. Raises CheckError where it fails or the module cannot be sent there."""
    with tempfile.TemporaryDirectory(prefix="archcalc-") as folder:
        file = Path(folder) / "module.pt"
        try:
            torch.save((module, args, kwargs), file)
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            message = f"{name} runs in its own process, where {type(module).__name__} cannot be sent: {reason}"
            raise CheckError(message) from error
        process = _process(name)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"file": str(file), "path": sys.path}) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BaseException:
            _stop(name)
            raise
    if not answer:
        _stop(name)
        raise CheckError(f"{name} ended its process while it counted {type(module).__name__}")
    found = json.loads(answer)
    if "error" in found:
        _stop(name)  # a failed count may leave the tool's patches and sums behind
        raise CheckError(found["error"])
    lists = {key: tuple(found[key]) for key in ("unsupported", "changed")}
    return Counted(**found | lists)


def _process(name: str) -> subprocess.Popen[str]:
    running = _RUNNING.get(name)
    if running is None or running.poll() is not None:
        running = _RUNNING[name] = subprocess.Popen(
            [sys.executable, "-m", __name__, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    return running


def _stop(name: str) -> None:
    running = _RUNNING.pop(name, None)
    if running is not None:
        running.kill()
        running.communicate()


@atexit.register
def _stop_all() -> None:
    for name in list(_RUNNING):
        _stop(name)


def _serve(name: str) -> None:
    """Answer requests until standard input ends."""
    from archcalc.pytorch.counters import COUNTERS

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the tool prints is no answer
    for line in sys.stdin:
        request = json.loads(line)
        sys.path[:] = request["path"]
        try:
            module, args, kwargs = torch.load(request["file"], weights_only=False)
        except Exception as error:
            answer: dict[str, Any] = {"error": f"{name} runs in its own process, which cannot load the module: {error}"}
        else:
            try:
                answer = asdict(COUNTERS[name].here(module, args, kwargs))
            except ArchcalcError as error:
                answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
