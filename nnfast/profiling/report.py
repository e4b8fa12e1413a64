"""What `Model.profile` gives back: the ops of a step with time, work and roofline, as a table, as data, as a picture.

Nothing is measured here; `nnfast.profiling.measuring` does that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from nnfast.profiling.roofline import Roofline
from nnfast.program import Program, _title
from nnfast.protocol import Op
from nnfast.text import quantity, table

__all__ = ["Profile", "Row", "duration", "name_of", "percent"]


class Row(NamedTuple):
    """One line of a profile: an op of the Program, or something that the step does beside them (`place` None).

    `share` is the part of the timed step, `floor` the seconds that the machine's roofline asks for at least; None where
    there is none: for plain Python, for what nobody counts, and for an op whose numbers leave it nothing to do, such as
    a penalty of strength 0. `calls` is False for an op that was not called: it is idle, or runs as a part of another.
    """

    place: int | None  # in the program
    stage: str
    op: str
    layer: str
    size: str
    seconds: float
    share: float
    bytes: float  # per step, averaged over the batches
    flops: float
    floor: float | None
    bound: str  # "compute", "memory" or ""
    calls: bool = True

    @property
    def roofline(self) -> float | None:
        """The part of the attainable speed that is reached; above 1 where data stay nearer than was measured."""
        return self.floor / self.seconds if self.floor is not None and self.seconds > 0 else None


@dataclass(frozen=True)
class Profile:
    """Where a step spends its time, op by op. `print` it, `plot()` it, or take the numbers from `rows`.

    total    seconds of a step as it runs otherwise, without clocks
    timed    seconds of a step with a clock around every op; the seconds of `rows` add up to this
    """

    rows: tuple[Row, ...]
    total: float
    timed: float
    mode: str
    backend: str
    dtype: str
    batch: int  # rows of a step
    threads: int
    machine: Roofline | None  # None where the backend computes elsewhere than on the CPU
    one_by_one: bool  # whether the ops were timed outside the backend's own runner, which cannot time them

    @property
    def steps_per_second(self) -> float:
        return 1 / self.total

    @property
    def overhead(self) -> float:
        """What timing cost, as a part of `total`; noise can make it negative."""
        return self.timed / self.total - 1

    @property
    def roofline(self) -> float | None:
        """The part of this machine's attainable speed that the whole step reaches, without clocks."""
        floors = [row.floor for row in self.rows if row.floor is not None]
        return sum(floors) / self.total if floors else None

    @property
    def title(self) -> str:
        """What was measured, and how long it takes."""
        what = {"train": "Training step", "evaluate": "Evaluation", "predict": "Prediction"}[self.mode]
        return f"{what} of {self.batch:,} rows: {duration(self.total)}"

    @property
    def circumstances(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        pace = f"{_three_digits(self.steps_per_second)} {'steps' if self.mode == 'train' else 'batches'} per second"
        return f"{self.dtype}, backend {self.backend}, {threads}; {pace}"

    def __str__(self) -> str:
        head = ["#", "stage", "op", "layer", "size", "time", "share", "bytes", "FLOPs", "of roofline", "bound by"]
        lines = [_cells(row) for row in self.rows]
        moved, computed = sum(r.bytes for r in self.rows), sum(r.flops for r in self.rows)
        sums = [duration(self.timed), "100 %", quantity(moved, "B"), quantity(computed, "")]
        whole = None if self.roofline is None else self.roofline * self.total / self.timed
        lines.append(["", "", "", "", "", *sums, percent(whole), ""])
        body = table(head, lines, right=(0, 5, 6, 7, 8, 9), total=True)
        return "\n".join([f"{self.title}; {self.circumstances}", body, *self.notes()])

    def notes(self, idle: str = "– : an op that had nothing to do, or runs as a part of another.") -> list[str]:
        """What one has to know to read the table; `idle` says how ops that were not called are shown."""
        notes = [
            f"With a clock around every op a step takes {duration(self.timed)}, which the lines add up to; "
            f"without, {duration(self.total)} ({self.overhead:+.1%})."
        ]
        if self.overhead < -0.05:
            notes.append("Since clocks make nothing faster, the machine has been busy with other things as well.")
        if self.one_by_one:
            notes.append(f"The runner of {self.backend!r} cannot time its ops: each was called alone, by its kernel.")
        if any(not row.calls for row in self.rows):
            notes.append(idle)
        if self.machine is not None:
            notes.append(f"Roofline, measured: {self.machine}.")
        if any((row.roofline or 0) > 1 for row in self.rows):
            notes.append(
                "Above 100 %: its data stayed nearer to the core than what was measured, "
                "or it computes less than is counted."
            )
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, text, lists and dictionaries, which `json.dumps` takes."""
        ops = [row._asdict() | {"roofline": row.roofline} for row in self.rows]
        machine = None
        if self.machine is not None:
            machine = {
                "flops_per_second_of_one_core": self.machine.core_flops,
                "flops_per_second": self.machine.flops,
                "bandwidths": [
                    {"bytes_per_core": size, "bytes_per_second": speed} for size, speed in self.machine.bandwidths
                ],
            }
        names = ("mode", "backend", "dtype", "batch", "threads", "one_by_one")
        return {name: getattr(self, name) for name in names} | {
            "seconds_per_step": self.total,
            "seconds_per_step_timed": self.timed,
            "steps_per_second": self.steps_per_second,
            "roofline": self.roofline,
            "machine": machine,
            "ops": ops,
        }

    def plot(self, file: Any = None) -> Any:
        """A picture: a bar per op in the order of the step, the part that the roofline explains in full colour.

        Returns a matplotlib Figure; with `file` ("profile.png", .pdf, .svg) it is saved there too. Needs matplotlib:
        `pip install 'nnfast[plot]'`.
        """
        from nnfast.pictures.profile import draw

        return draw(self, file)


def _cells(row: Row) -> list[str]:
    number = "" if row.place is None else str(row.place)
    time, share = (duration(row.seconds), percent(row.share)) if row.calls else ("–", "")
    work = [quantity(row.bytes, "B"), quantity(row.flops, "")] if row.bytes or row.flops else ["", ""]
    return [
        number,
        row.stage,
        row.op,
        row.layer,
        row.size,
        time,
        share,
        *work,
        percent(row.roofline),
        row.bound if row.calls else "",
    ]


def percent(part: float | None) -> str:
    """`0.123` -> "12 %"; nothing for None."""
    if part is None:
        return ""
    return f"{part:.1%}".replace("%", " %") if abs(part) < 0.0995 else f"{part:.0%}".replace("%", " %")


def duration(seconds: float) -> str:
    """`0.00001234` -> "12.3 µs"."""
    if seconds == 0:
        return "0 s"
    size = abs(seconds)
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if size * factor >= 0.9995:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _three_digits(value: float) -> str:
    size = abs(value)
    return f"{value:,.0f}" if size >= 99.95 else f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def name_of(op: Op, program: Program) -> tuple[str, str, str]:
    """An op in words: what it is called, the number of its layer, and the size of what it works on."""
    buffers = [b for b in op.args if b is not None]
    flat = [b for b in buffers if b.space in ("parameters", "gradients") and re.match(r"d?\d+\.", b.name)]
    named = flat or [b for b in buffers if b.space == "arena" and re.match(r"\d+\.", b.name)][-1:]
    layer = ""
    if named and op.stage not in ("loss", "metric", "update"):
        layer = named[0].name.lstrip("d").partition(".")[0]
    matrices = [b for b in flat if len(b.shape) == 2]
    shape = (matrices or buffers)[0].shape if buffers else ()
    return _title(op), layer, "×".join(map(str, shape))
