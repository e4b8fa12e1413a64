"""Runs the Python blocks of a page, one after the other as one program, and prints what each printed, as JSON.

python docs/blocks.py population.md

A block whose output the page shows is followed by the marks `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from pathlib import Path

BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n<!-- (\w+): begin -->)?", re.DOTALL)


def outputs(page: Path) -> dict[str, str]:
    """What the blocks print, by the name of their marks."""
    space: dict[str, object] = {}
    found = {}
    for code, name in BLOCK.findall(page.read_text(encoding="utf-8")):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(code, page.name, "exec"), space)
        if name:
            found[name] = said.getvalue().strip("\n")
    return found


if __name__ == "__main__":
    print(json.dumps(outputs(Path(__file__).parent / sys.argv[1])))
