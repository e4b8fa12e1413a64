"""Runs the examples, and puts what they print and draw into this folder: `make docs`.

python docs/make.py [training] [profile] [c] [limits] [estimators] [population] [scaling] [sweeps]

The last two measure for minutes, need MPI and Dask, and are made only where they are named.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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

# What each prints goes between the marks of its name on this page.
MAKERS = {
    "training": ("training.md", ["-m", "nnfast.examples.training", "--plot", str(HERE / "training.png")]),
    "profile": ("training.md", ["-c", PROFILE.format(picture=str(HERE / "profile.png"))]),
    "c": ("interop.md", ["-c", HEADER]),
    "limits": ("promises.md", [str(HERE / "limits.py")]),
    "estimators": ("scikit-learn.md", [str(HERE / "estimators.py")]),
    "scaling": ("clusters.md", [str(HERE / "scaling.py"), str(HERE / "scaling.png")]),
    "sweeps": ("clusters.md", [str(HERE / "sweeps.py")]),
}
# Pages that are programs themselves: what each of their blocks prints follows it, see blocks.py.
PAGES = {"population": "population.md"}
LONG = ("scaling", "sweeps")


def printed(arguments: list[str]) -> str:
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=HERE)
    if run.returncode:
        raise SystemExit(f"{arguments}: {run.stderr}")
    return run.stdout.strip("\n").replace(str(HERE) + "/", "")


def filled(page: str, name: str, text: str) -> str:
    """The page with this text between the marks of this name."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}```text\n{text}\n```\n{end}{after}"


def main(names: list[str]) -> None:
    for name in names or [name for name in [*MAKERS, *PAGES] if name not in LONG]:
        page, arguments = MAKERS.get(name) or (PAGES[name], [str(HERE / "blocks.py"), PAGES[name]])
        said = printed(arguments)
        path = HERE / page
        text = path.read_text(encoding="utf-8")
        for mark, body in (json.loads(said) if name in PAGES else {name: said}).items():
            text = filled(text, mark, body)
        path.write_text(text, encoding="utf-8")
        print(f"{name}: done")


if __name__ == "__main__":
    main(sys.argv[1:])
