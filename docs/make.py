"""Runs the examples, and puts what they print and draw into this folder: `make docs`.

python docs/make.py [NAME ...]     the names of MAKERS and PAGES; all but LONG, where none is given
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent

PROFILE = """
import nnfast as nn

X, y = nn.datasets.spiral(100, 3, 0)
model = nn.Model(
    [nn.Dense(2, 64, weight_l2=5e-4), nn.ReLU(), nn.Dropout(0.1), nn.Dense(64, 3)],
    loss=nn.SoftmaxCrossEntropy(), optimizer=nn.Adam(0.05), metrics=["accuracy"], rng=0,
)
profile = model.profile(X, y)
print(profile)
profile.plot({picture!r})
"""

HEADER = """
import nnfast as nn
from nnfast.exchange.c_source import source

layers = [nn.Standardize(0, 1, n_inputs=4), nn.Dense(4, 16), nn.Tanh(), nn.Dense(16, 3)]
print(source(nn.Model(layers, nn.SoftmaxCrossEntropy(), rng=0)).partition("#ifndef")[0])
"""


class Maker(NamedTuple):
    """What Python is run with, the page that shows what it prints, between the marks of its name, and how."""

    page: str
    arguments: list[str]
    language: str = "text"  # of the block of code that it becomes; "" for what is Markdown


MAKERS = {
    "metal": Maker("from-the-book-to-the-metal.md", [str(HERE / "metal.py")]),
    "threads_backend": Maker("own-backend.md", [str(HERE / "threads_parity.py"), "source"], "python"),
    "threads_parity": Maker("own-backend.md", [str(HERE / "threads_parity.py"), "parity"]),
    "threads_times": Maker("own-backend.md", [str(HERE / "threads_parity.py"), "times"]),
    "floor": Maker("roofline.md", [str(HERE / "floor.py")]),
    "profile": Maker("roofline.md", ["-c", PROFILE.format(picture=str(HERE / "profile.png"))]),
    "training": Maker("training.md", ["-m", "nnfast.examples.training", "--plot", str(HERE / "training.png")]),
    "ops": Maker("backends.md", [str(HERE / "op_table.py")], ""),
    "c": Maker("interop.md", ["-c", HEADER]),
    "limits": Maker("promises.md", [str(HERE / "limits.py")]),
    "estimators": Maker("scikit-learn.md", [str(HERE / "estimators.py")]),
    "scaling": Maker("clusters.md", [str(HERE / "scaling.py"), str(HERE / "scaling.png")]),
    "sweeps": Maker("clusters.md", [str(HERE / "sweeps.py")]),
}
# Pages that are programs themselves: what each of their blocks prints follows it, see blocks.py.
PAGES = {"population": Maker("population.md", [str(HERE / "blocks.py"), "population.md"])}
LONG = ("scaling", "sweeps")  # they measure for minutes, and need MPI and Dask


def printed(arguments: list[str]) -> str:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}  # what is printed has more signs than some consoles
    command = [sys.executable, *arguments]
    run = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, cwd=HERE)
    if run.returncode:
        raise SystemExit(f"{arguments}: {run.stderr}")
    return run.stdout.strip("\n").replace(str(HERE) + "/", "")


def filled(page: str, name: str, text: str, language: str = "text") -> str:
    """The page with this text between the marks of this name, as a block of code where a language is given."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    body = f"```{language}\n{text}\n```" if language else text
    return f"{before}{begin}{body}\n{end}{after}"


def main(names: list[str]) -> None:
    for name in names or [name for name in [*MAKERS, *PAGES] if name not in LONG]:
        page, arguments, language = (MAKERS | PAGES)[name]
        path = HERE / page
        said = printed(arguments)  # first, since it takes a while, in which the page may have been changed
        text = path.read_text(encoding="utf-8")
        for mark, body in (json.loads(said) if name in PAGES else {name: said}).items():
            text = filled(text, mark, body, language)
        path.write_text(text, encoding="utf-8")
        print(f"{name}: done")


if __name__ == "__main__":
    main(sys.argv[1:])
