"""Forecasts of every network of the zoo beside measured passes: errors in total and by layer.

Usage: python benchmarks/forecast.py [NETWORK...] [--device NAME] [--dtype NAME] [--threads N] [--batch N] [--measure]
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archcalc import targets, zoo
from archcalc.errors import InputError
from archcalc.pytorch import devices
from archcalc.pytorch.forecast import Forecast, forecast, percent

RESULTS = Path(__file__).resolve().parent / "results"


def environment_name(facts: Mapping[str, Any]) -> str:
    """A file name's part such as amd-epyc-2-threads-float32-torch2.15."""
    version = ".".join(str(facts["torch"]).split(".")[:2])
    device = re.sub(r"[^a-z0-9]+", "-", str(facts["device_name"]).lower()).strip("-")
    dtype = f"-{facts['dtype']}" if "dtype" in facts else ""
    return f"{device}-{facts['threads']}-threads{dtype}-torch{version}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(zoo.ENTRIES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch")
    parser.add_argument("--seconds", type=float, default=1.0, help="least time to measure each network")
    parser.add_argument("--measure", action="store_true", help="measure ceilings and calibration again")
    parser.add_argument("--output", type=Path, help="write here instead")
    arguments = parser.parse_args()
    (device,) = devices.resolve(arguments.device)
    found: list[Forecast] = []
    for name in arguments.networks:
        try:
            one = forecast(
                targets.resolve(name, batch=arguments.batch),
                device=device,
                dtype=arguments.dtype,
                threads=arguments.threads,
                again=arguments.measure and not found,
                seconds=arguments.seconds,
            )
        except InputError as refused:  # memory that is too small
            print(f"{name}: {refused}")
            continue
        error = one.total.error
        print(f"{name}: {'' if error is None else percent(error)}", flush=True)
        found.append(one)
    if found:
        path = arguments.output or RESULTS / f"forecast-{environment_name(found[0].machine.environment)}.json"
        path.write_text(json.dumps([one.to_dict() for one in found], indent=1) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
