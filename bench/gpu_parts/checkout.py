"""Makes nnfast importable from this checkout, installed or not, and says which sources were measured."""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path

__all__ = ["ROOT", "fingerprint", "open_checkout"]

ROOT = Path(__file__).resolve().parents[2]


def open_checkout(*, simulator: bool = False) -> None:
    """Put the checkout first on the path, and `kernels/` where an installation has it: at `nnfast.kernels`.

    Packages are looked for along `nnfast.__path__`, so the folder that holds `kernels/` is all that has to stand there.
    """
    places = [ROOT, ROOT / "bench", *([ROOT / "tests"] if simulator else [])]
    for place in reversed(places):
        if str(place) in sys.path:
            sys.path.remove(str(place))
        sys.path.insert(0, str(place))
    nnfast = importlib.import_module("nnfast")
    if str(ROOT) not in nnfast.__path__:
        nnfast.__path__.append(str(ROOT))
    importlib.import_module("nnfast.kernels")


def fingerprint() -> str:
    """The beginning of a hash over the sources of the package: figures of other sources do not go together."""
    digest = hashlib.sha256()
    for folder in ("nnfast", "kernels"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".cu", ".cuh"):
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
