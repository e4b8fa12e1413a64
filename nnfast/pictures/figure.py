"""The figure that all pictures are drawn on. Importing this module loads matplotlib, so import it inside functions."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

__all__ = ["Picture"]


class Picture(Figure):
    """A Figure made without pyplot, so that no window opens and nothing must be closed; a notebook shows it still.

    Unless pyplot's inline backend is at work, IPython knows no way to show a plain Figure; `_repr_png_` is one.
    """

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()
