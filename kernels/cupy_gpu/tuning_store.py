"""The file in which the measurements of a GPU are kept: read once, replaced in one step, never relied on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from ..folders import make_private, user_cache
from .lt_constants import ALGORITHM_BYTES

__all__ = ["Store"]

FORMAT = 1
LARGEST = 1 << 24  # bytes of a file that is read


class Store:
    """Decisions for one kind of GPU and one version of cublasLt: in memory, and in a file that processes share.

    The file is `gpu-<device>-cublaslt<version>.json` in NNFAST_CACHE_DIR, else in the user's cache folder;
    NNFAST_CACHE=0 does without it. What another process has added since it was read stays in it. What cannot be read
    or written costs one notice on stderr, and decisions last as long as the process.
    """

    def __init__(self, device: str, version: int, folder: Path | None = None) -> None:
        self.path: Path | None = None
        self._joins: dict[str, bool] = {}
        self._algorithms: dict[str, bytes] = {}
        self._new: set[str] = set()  # measured by this process
        self._noticed = False
        self._lock = threading.Lock()
        if os.environ.get("NNFAST_CACHE") == "0":
            return
        slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")[:100] or "gpu"
        try:
            self.path = (folder or user_cache()) / f"gpu-{slug}-cublaslt{version}.json"
        except OSError as error:
            self._notice("are not kept on disk", error)
            return
        self._joins, self._algorithms = self._read()

    def join(self, key: str) -> bool | None:
        return self._joins.get(key)

    def algorithm(self, key: str) -> bytes | None:
        return self._algorithms.get(key)

    def keep_join(self, key: str, answer: bool) -> None:
        with self._lock:
            self._joins[key] = answer
            self._write(key)

    def keep_algorithm(self, key: str, data: bytes) -> None:
        with self._lock:
            self._algorithms[key] = data
            self._write(key)

    def _read(self) -> tuple[dict[str, bool], dict[str, bytes]]:
        """What the file holds, if it is sound; a part that is not is left out."""
        assert self.path is not None
        try:
            if not self.path.exists():
                return {}, {}
            joins, algorithms, sound = _parsed(_content(self.path))
            if not sound:
                self._notice("are measured anew where need be", ValueError("it is damaged"))
            return joins, algorithms
        except (OSError, ValueError, RecursionError) as error:
            self._notice("are measured anew", error)
            return {}, {}

    def _write(self, key: str) -> None:
        """Add what this process has measured to what the file holds by now."""
        self._new.add(key)
        if self.path is None:
            return
        joins, algorithms = self._read()
        joins |= {key: answer for key, answer in self._joins.items() if key in self._new}
        algorithms |= {key: data for key, data in self._algorithms.items() if key in self._new}
        content = {
            "format": FORMAT,
            "joins": joins,
            "algorithms": {key: data.hex() for key, data in algorithms.items()},
        }
        try:
            make_private(self.path.parent)
            _replace(self.path, json.dumps(content, indent=1, sort_keys=True))
        except OSError as error:
            if os.name == "nt" and isinstance(error, PermissionError) and self.path.exists():
                return  # on Windows a file that somebody reads cannot be replaced; there will be a next time
            self._notice("are not kept on disk", error)
            self.path = None  # the next attempt would fail as well

    def _notice(self, what: str, error: Exception) -> None:
        if not self._noticed and sys.stderr is not None:
            self._noticed = True
            place = f"{self.path}: " if self.path else ""
            print(f"nnfast: measurements of the GPU {what}: {place}{type(error).__name__}: {error}", file=sys.stderr)


def _content(path: Path) -> Any:
    if not path.is_file() or path.stat().st_size > LARGEST:
        raise ValueError("it is no file of measurements")
    return json.loads(path.read_text(encoding="utf-8"))


def _parsed(content: Any) -> tuple[dict[str, bool], dict[str, bytes], bool]:
    """The entries that are as they should be, and whether all are."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError("it is no file of measurements")
    found_joins, found_algorithms = content.get("joins"), content.get("algorithms")
    sound = isinstance(found_joins, dict) and isinstance(found_algorithms, dict)
    joins: dict[str, bool] = {}
    algorithms: dict[str, bytes] = {}
    for key, answer in found_joins.items() if isinstance(found_joins, dict) else ():
        if isinstance(answer, bool):
            joins[key] = answer
        else:
            sound = False
    for key, text in found_algorithms.items() if isinstance(found_algorithms, dict) else ():
        if isinstance(text, str) and re.fullmatch(rf"[0-9a-f]{{{2 * ALGORITHM_BYTES}}}", text):
            algorithms[key] = bytes.fromhex(text)
        else:
            sound = False
    return joins, algorithms, sound


def _replace(path: Path, text: str) -> None:
    """In one step: a reader finds the old file or the new one, whole, whoever else writes it at the same time."""
    handle, temporary = tempfile.mkstemp(".tmp", path.name[:16], path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
