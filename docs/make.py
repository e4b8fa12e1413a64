"""Runs the examples, and puts what they print and draw into this folder: `make docs`.

python docs/make.py [training] [profile]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE / "training.md"

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

MAKERS = {
    "training": ["-m", "nnfast.examples.training", "--plot", str(HERE / "training.png")],
    "profile": ["-c", PROFILE.format(picture=str(HERE / "profile.png"))],
}


def printed(arguments: list[str]) -> str:
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=HERE)
    if run.returncode:
        raise SystemExit(f"{arguments}: {run.stderr}")
    return run.stdout.strip("\n").replace(str(HERE) + "/", "")


def write_between(name: str, text: str) -> None:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    PAGE.write_text(f"{before}{begin}```text\n{text}\n```\n{end}{after}", encoding="utf-8")


def main(names: list[str]) -> None:
    for name in names or MAKERS:
        write_between(name, printed(MAKERS[name]))
        print(f"{name}: done")


if __name__ == "__main__":
    main(sys.argv[1:])
