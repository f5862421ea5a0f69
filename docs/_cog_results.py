"""The results files of benchmarks/, for cog blocks that show them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


def results(kind: str) -> list[Any]:
    """What the results files of a kind hold, a file each."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob(f"{kind}-*.json"))]


def machine(facts: Mapping[str, Any]) -> str:
    """The device of an environment, in bold, and what was measured with."""
    versions = f"torch {facts['torch']}" + (f", CUDA {facts['cuda']}" if facts.get("cuda") else "")
    threads = "1 CPU thread" if facts["threads"] == 1 else f"{facts['threads']} CPU threads"
    return f"**{facts['device_name']}**: {facts['device']}, {threads}, {versions}."
