"""The five reference programs as whole programs: how each is started, and what it must print to count.

A program's answer is checked on what it printed: the examples' tables, and the line of JSON of the same program in the
book's arithmetic. Figures of the book are exact early; later the paths are chaotic in float32, and there are bands.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

__all__ = ["PROGRAMS", "Program"]

BOOK = Path(__file__).parents[1] / "peers" / "book_programs.py"
NAN = (float("nan"), float("nan"))
EARLY = 200  # up to this epoch of the case study, ours and the book's arithmetic have the same course

Course = dict[int, tuple[float, float]]  # epoch, or number of candidates: (accuracy, loss)


@dataclass
class Report:
    """The figures that one program printed, and what is wrong with them."""

    who: str
    courses: list[Course]  # of its trainings
    named: dict[str, list[float]]
    wrong: list[str] = field(default_factory=list)

    def near(self, what: str, got: float, expected: float, within: float) -> None:
        if not abs(got - expected) <= within:  # also where the figure is missing: NaN
            self.wrong.append(f"{self.who}: {what} is {got:.9g}, expected {expected:.9g} within {within:.2g}")

    def at(self, course: Course, epoch: int, accuracy: float, loss: float, within: tuple[float, float]) -> None:
        """Figures to three decimals, which is all that the examples print."""
        got = course.get(epoch, NAN)
        self.near(f"accuracy at epoch {epoch}", round(got[0], 3), accuracy, within[0] + 1e-9)
        self.near(f"loss at epoch {epoch}", round(got[1], 3), loss, within[1] + 1e-9)

    def says(self, name: str, expected: Sequence[float], within: float) -> None:
        got = [*self.named.get(name, []), *NAN, *NAN]
        for k, figure in enumerate(expected):
            self.near(name, got[k], figure, within)

    def runs(self, count: int) -> list[Course]:
        """The courses, if there are so many."""
        return self.courses if len(self.courses) == count else [{}] * count


def printed(text: str) -> Report:
    """What an example of nnfast says: tables, whose rows begin with an epoch, its accuracy and loss, or with a name."""
    courses: list[Course] = []
    named: dict[str, list[float]] = {}
    inside = False
    for line in text.splitlines():
        row = re.match(r"\s*(\d[\d,]*)\s+(\d+\.\d+)\s+(\d\S*)(?:\s|$)", line)
        if row:
            if not inside:
                courses.append({})
            courses[-1][int(row[1].replace(",", ""))] = (float(row[2]), float(row[3]))
        inside = bool(row)
        row = re.match(r"([a-z].*?)\s{2,}(\d[\d.e\s-]*)$", line)
        if row:
            named[row[1]] = [float(cell) for cell in row[2].split()]
    return Report("nnfast", courses, named)


def told(text: str) -> Report:
    """What the same program in the book's arithmetic says: JSON."""
    try:
        found = json.loads(text)
    except ValueError:
        found = {}  # all figures are missing then
    runs = [run for run in found.values() if isinstance(run, dict)]
    courses = [{int(epoch): tuple(figures) for epoch, figures in run["course"].items()} for run in runs]
    named = {name: value if isinstance(value, list) else [value] for name, value in found.items()}
    return Report("the book", courses, named)


def losses(report: Report, quick: bool) -> None:
    for k, expected in enumerate([0.35667494, 0.69314718, 0.10536052]):
        report.says(f"loss of sample {k}", [expected], 5.1e-9)  # as rounded
    for y in ("class numbers", "one-hot rows"):
        report.says(f"mean loss, {y}", [0.38506088], 5.1e-9)
        report.says(f"accuracy, {y}", [2 / 3], 1e-9)
    report.says("loss at probability 0 (clipped to 1e-7)", [16.1180957], 5.1e-8)
    report.says("loss at probability 1 (clipped to 1 - 1e-7)", [1.00000005e-7], 1e-15)
    report.says("third row of the output", [0.3333329, 0.33333293, 0.3333342], 1e-7)
    report.says("loss", [1.0986104], 2e-7)
    report.says("accuracy", [0.34], 1e-9)


def random_search(report: Report, quick: bool) -> None:
    """Everybody draws candidates of his own, so there are no digits; guessing gives 1.0986."""
    last = PROGRAMS["random_search"].length(quick)
    sample, perturb = (course.get(last, NAN) for course in report.runs(2))
    report.near("loss by sampling", sample[1], 1.096, 0.0024)
    report.near("loss by perturbing", perturb[1], 0.15, 0.15)
    report.near("accuracy by perturbing", perturb[0], 0.925, 0.075)


def optimizers(report: Report, quick: bool) -> None:
    (course,) = report.runs(1)
    sample = (0.0045, 0.0015)  # one of 300 in accuracy, both figures rounded
    report.at(course, 0, 0.360, 1.099, (0, 0))
    report.at(course, 100, 0.400, 1.087, sample)
    report.at(course, 200, 0.417, 1.077, sample)
    if not quick:  # chaotic, but further than it was at epoch 1,000
        accuracy, loss = course.get(10_000, NAN)
        report.near("accuracy at the end", accuracy, 0.7, 0.25)
        report.near("loss at the end", loss, 0.7, 0.35)


def regression(report: Report, quick: bool) -> None:
    (course,) = report.runs(1)
    report.at(course, 0, 0.003, 0.496, (0, 0))
    report.at(course, 100, 0.017, 0.048, (0.003, 0.001))
    if not quick:  # one epoch in eleven is a bad one, so the middle of five
        late = [course.get(epoch, NAN) for epoch in (7_000, 8_000, 9_000, 9_900, 10_000)]
        accuracy, loss = np.median(late, axis=0).tolist()
        report.near("accuracy late", accuracy, 0.965, 0.035)
        report.near("loss late", loss, 0, 1e-5)


def case_study(report: Report, quick: bool) -> None:
    linear, network = report.runs(2)
    report.near("the linear classifier's first loss", linear.get(0, NAN)[1], 1.098, 0.01)
    accuracy, loss = linear.get(199, NAN)
    report.near("the linear classifier's accuracy", accuracy, 0.51, 0.04)
    report.near("the linear classifier's loss", loss, 0.77, 0.04)
    report.near("the network's first loss", network.get(0, NAN)[1], 1.0986, 0.01)
    if not quick:
        accuracy, loss = network.get(9_999, NAN)
        report.near("the network's accuracy", accuracy, 0.98, 0.02)
        report.near("the network's loss", loss, 0.225, 0.075)


def same_course(ours: Report, book: Report) -> None:
    """The text of the case study gives no seed, so its page cannot tell our course; the book's arithmetic can."""
    for part, a, b in zip(("linear", "network"), ours.runs(2), book.runs(2), strict=True):
        for epoch in (e for e in a if e <= EARLY):
            what = f"the {part} loss at epoch {epoch}, beside the book's arithmetic,"
            ours.near(what, a[epoch][1], b.get(epoch, NAN)[1], 0.002)


@dataclass(frozen=True)
class Program:
    """`epochs` is what it does without options, `quick` for a quick run; `losses` trains nothing and has neither."""

    name: str
    what: str
    judge: Callable[[Report, bool], None]
    epochs: int | None = None
    quick: int | None = None
    together: Callable[[Report, Report], None] | None = None

    def nnfast_command(self, backend: str, quick: bool = False) -> list[str]:
        module = f"nnfast.examples.{self.name}"
        return [sys.executable, "-m", module, "--backend", backend, *self._fewer(quick)]

    def book_command(self, quick: bool = False) -> list[str]:
        return [sys.executable, str(BOOK), self.name, *self._fewer(quick)]

    def length(self, quick: bool) -> int:
        return (self.quick if quick else self.epochs) or 0

    def _fewer(self, quick: bool) -> list[str]:
        return ["--epochs", str(self.quick)] if quick and self.quick else []

    def check(self, stdout_nnfast: str, stdout_book: str, quick: bool = False) -> list[str]:
        """What is wrong with the answers, line by line; nothing where they count."""
        ours, book = printed(stdout_nnfast), told(stdout_book)
        for report in (ours, book):
            self.judge(report, quick)
        if self.together is not None:
            self.together(ours, book)
        return ours.wrong + book.wrong


PROGRAMS = {
    program.name: program
    for program in (
        Program("losses", "losses by hand, an untrained 2-3-3", losses),
        Program("random_search", "random search, 2-3-3, 10,000 candidates twice", random_search, 10_000, 1_000),
        Program("optimizers", "gradient descent on the spiral, 2-64-3, 10,001 epochs", optimizers, 10_001, 201),
        Program("regression", "Adam on the sine, 1-64-64-1, 10,001 epochs", regression, 10_001, 101),
        Program(
            "case_study",
            "the case study, 2-3 for 200 epochs and 2-100-3 for 10,000",
            case_study,
            10_000,
            200,
            same_course,
        ),
    )
}
