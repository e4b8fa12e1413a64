"""For the API reference: the docstrings of nnfast as Markdown.

They are written for an editor. A list of arguments there is, line by line, a word, two or more blanks and what
it is, with what follows indented; Markdown would make one paragraph of it.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ENTRY = re.compile(r"^(\*{0,2}[A-Za-z_][\w.]*(?:, \*{0,2}[A-Za-z_]\w*)*) {2,}(\S.*)$")


def as_markdown(text: str) -> str:
    """Lists of arguments become lists; all else stays."""
    lines, listing = [], False
    for line in text.split("\n"):
        entry = ENTRY.match(line)
        if entry:
            names = ", ".join(f"`{name}`" for name in entry[1].split(", "))
            lines += [] if listing else [""]
            lines.append(f"- {names}: {entry[2]}")
            listing = True
        elif listing and line.startswith("  "):
            lines.append(f"    {line.strip()}")
        else:
            lines += [""] if listing and line else []
            lines.append(line)
            listing = False
    return "\n".join(lines)


class Docstrings(griffe.Extension):
    """Rewrites each docstring once, when its object has been read."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        if not obj.is_alias and obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
