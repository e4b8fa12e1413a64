"""Where backends keep what need not be made anew: one folder per user, in which each has files or a folder of its own.

Nothing in here warns: what cannot be done raises an OSError.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["make_private", "user_cache"]


def user_cache() -> Path:
    """NNFAST_CACHE_DIR, else what the platform says."""
    windows = sys.platform == "win32"
    given = os.environ.get("NNFAST_CACHE_DIR")
    if given:
        return Path(os.path.abspath(os.path.expanduser(given)))
    usual = {"win32": "~/AppData/Local", "darwin": "~/Library/Caches"}.get(sys.platform, "~/.cache")
    for root in (os.environ.get("LOCALAPPDATA" if windows else "XDG_CACHE_HOME"), os.path.expanduser(usual)):
        if root and os.path.isabs(root):  # where no home is known, the "~" is still there
            return Path(root, "nnfast", "Cache") if windows else Path(root, "nnfast")
    raise FileNotFoundError("there is no home directory")


def make_private(place: Path) -> None:
    """mkdir -p with every new folder private; `Path.mkdir` gives the parents its default mode."""
    if place.is_dir():
        return
    if place.parent != place:
        make_private(place.parent)
    try:
        place.mkdir(mode=0o700)
    except FileExistsError:
        if not place.is_dir():
            raise
