"""A section of the benchmark: steps one after the other, each guarded, what they found written after each."""

from __future__ import annotations

import json
import math
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Section", "plain", "write_json"]


class Section:
    """What a process found, in `file`: {"device": …, "steps": {name: {"seconds": …, "found" | "error" | "skipped"}}}.

    No step begins once the time is up; one that has begun is not cut short by anybody but the parent.
    """

    def __init__(self, file: Path, seconds: float) -> None:
        self._file = file
        self._end = time.monotonic() + seconds
        self.content: dict[str, Any] = {"device": None, "steps": {}}

    @property
    def left(self) -> float:
        """Seconds left."""
        return self._end - time.monotonic()

    def device(self, name: str) -> None:
        self.content["device"] = name
        self.save()

    def step(self, name: str, work: Callable[..., Any], *args: Any, needs: float = 0.0) -> Any:
        """What `work(*args)` found, plain data; None where it failed, or where fewer seconds are left than it needs."""
        entry: dict[str, Any] = {"seconds": 0.0}
        self.content["steps"][name] = entry
        if self.left <= needs:
            entry["skipped"] = "no time was left"
            self.save()
            return None
        begin = time.perf_counter()
        try:
            entry["found"] = plain(work(*args))
        except Exception:  # anything at all; the next step runs
            entry["error"] = traceback.format_exc()
        entry["seconds"] = round(time.perf_counter() - begin, 2)
        self.save()
        return entry.get("found")

    def fail(self) -> None:
        """Note the error that is being handled as that of the whole section."""
        self.content["error"] = traceback.format_exc()
        self.save()

    def save(self) -> None:
        write_json(self._file, self.content)


def write_json(file: Path, content: Any) -> None:
    """In one step: who is stopped in the middle leaves the old file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, file)


def plain(value: Any) -> Any:
    """As JSON knows it: no NumPy, and no numbers that are none."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
