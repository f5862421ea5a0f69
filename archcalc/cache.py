"""Cache: measured facts of this machine, kept as JSON files, each with the environment it was measured in."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VARIABLE = "ARCHCALC_CACHE"
"""Environment variable that names another folder."""


def folder() -> Path:
    """Where this platform keeps what can be made again, such as ~/.cache/archcalc."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "archcalc" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "archcalc"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archcalc"


def place(schema: str, environment: Mapping[str, Any]) -> Path:
    """The file for records of this schema, such as "archcalc.ceilings/1", made in this environment."""
    facts = json.dumps([schema, dict(environment)], sort_keys=True)
    name = schema.rpartition(".")[2].partition("/")[0]
    return folder() / f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.json"


def load(schema: str, environment: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record kept for this schema and environment; None where there is none that can be read."""
    try:
        record = json.loads(place(schema, environment).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or (record.get("schema"), record.get("environment")) != (schema, {**environment}):
        return None
    return record


def save(record: Mapping[str, Any]) -> None:
    """Keep a record, which names its schema and environment, as a whole or not at all; warn where that cannot be."""
    file = place(record["schema"], record["environment"])
    draft = file.with_name(f".{file.stem}-{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(f"cannot keep what was measured in {file.parent}: {error.strerror}", stacklevel=2)
