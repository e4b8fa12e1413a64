"""Plain text for people: aligned tables and short numbers, without a dependency."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["quantity", "table"]


def quantity(value: float, unit: str) -> str:
    """`1234567, "B"` -> "1.23 MB". Powers of 1000."""
    prefixes = ["", "k", "M", "G", "T"]
    while abs(value) >= 1000 and len(prefixes) > 1:
        value /= 1000
        del prefixes[0]
    prefix = prefixes[0]
    digits = f"{value:.0f}" if prefix == "" else f"{value:.3g}"
    return f"{digits} {prefix}{unit}".rstrip()


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), total: bool = False) -> str:
    """Columns under a ruled head; those in `right` flush right; with `total`, the last row under a rule of its own."""
    cells = [list(head), *[list(r) for r in rows]]
    widths = [max(len(r[c]) for r in cells) for c in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(w) if c in right else cell.ljust(w) for c, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()

    rule = "  ".join("─" * w for w in widths)
    body = [line(r) for r in cells[1:]]
    if total and body:
        body.insert(-1, rule)
    return "\n".join([line(head), rule, *body])
