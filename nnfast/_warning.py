"""Warnings that point to the caller's own line, however deep inside the package they arise."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn"]


def warn(message: str, category: type[Warning]) -> None:
    """A warning in the name of the line outside of this package that has led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "nnfast":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
