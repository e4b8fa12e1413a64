"""Whole programs: the reference programs, the time to an accuracy, and what company costs.

"programs" runs the five reference programs from process start to exit, beside the same work in the book's arithmetic;
what they print is checked. "digits" trains until 97 % of the held-out digits are right, everybody from the same weights
in the same order of rows. "company" is `fit` with progress, validation and checkpoints, beside `fit` without.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from cases.digits import TARGET
from cases.programs import PROGRAMS, Program
from measuring.groups import Entry, Group, LeftOut, Outcome, Refused, Result
from measuring.stand import Contender, Stand
from measuring.workers import Failed, environment
from peers import named

SUITE = "fit"
QUICK = ("losses", "optimizers")
ROUNDS, SLOW = 2, 4.0  # what takes longer than SLOW seconds is run once
NOTHING_TO_COMPILE = ("book", "numpy")
DIGITS_ROUNDS, DIGITS_SLOW, LIMIT_EPOCHS = 3, 1.5, 60
NOT_IN_DIGITS = ("tinygrad_jit",)  # it compiles for a quarter of a minute, and takes ten times as long as others
COMPANY = {"2-64-3, batch 300": 10_000, "784-128-10, batch 128": 100}  # epochs
COMPANY_ROUNDS = 5


def groups(stand: Stand) -> Iterator[Group]:
    yield from _programs(stand)
    taking = tuple(stand.contenders(ours="nnfast_fit", kind="train", twin=False))
    if find_spec("sklearn") is None:
        stand.left_out["fit: digits"] = "the digits come with scikit-learn (pip install nnfast[bench])"
    else:
        some = tuple(who for who in taking if stand.settings.peers or who.name not in NOT_IN_DIGITS)
        yield Group(SUITE, "digits", f"64-128-64-10 to {TARGET:.0%} test accuracy", some, measure_digits, "training")
    if sys.platform != "win32":  # there are no pseudo-terminals
        mine = tuple(who for who in taking if who.nnfast and (who.name != "numpy" or len(stand.backends) == 1))
        for name in COMPANY:
            yield Group(SUITE, "company", name, mine, measure_company, "run")


# ---- the reference programs -----------------------------------------------------------------------------------------


def _programs(stand: Stand) -> Iterator[Group]:
    for program in (PROGRAMS[name] for name in (QUICK if stand.settings.quick else PROGRAMS)):
        mine = [name for name in stand.backends if name != "numpy" or len(stand.backends) == 1]  # it takes minutes
        taking = [Contender(name, f"nnfast, {name}", "", (name,), nnfast=True) for name in mine]
        taking.insert(0, Contender("book", named("book").title, ""))  # whoever is wanted: its answer is needed

        def measure(
            group: Group, taking: Sequence[Contender], stand: Stand, program: Program = program
        ) -> Mapping[str, Outcome]:
            return measure_program(program, taking, stand)

        yield Group(SUITE, "programs", program.name, tuple(taking), measure, "run")


def measure_program(program: Program, taking: Sequence[Contender], stand: Stand) -> Mapping[str, Outcome]:
    """Seconds from start to exit. The first run of each proves the answer, and counts if it is slow."""
    outcomes: dict[str, Outcome] = {}
    times: dict[str, list[float]] = {who.key: [] for who in taking}
    with tempfile.TemporaryDirectory(prefix="nnfast-bench-") as folder:
        told = ""
        for r in range(2 if stand.settings.quick else 1 + ROUNDS):
            for who in sorted(
                taking, key=lambda who: who.nnfast
            ):  # the book first: its answer is what is compared with
                if who.key in outcomes or (times[who.key] and max(times[who.key]) > SLOW):
                    continue
                try:
                    printed, seconds = _run(_command(program, who, stand), folder, stand)
                except subprocess.CalledProcessError as error:
                    outcomes[who.key] = Refused(f"it ended with status {error.returncode}: {error.stderr.strip()}")
                    continue
                if r == 0 and not who.nnfast:
                    told = printed
                elif r == 0 and (wrong := program.check(printed, told, stand.settings.quick)):
                    outcomes[who.key] = Refused("; ".join(wrong))
                if r > 0 or (seconds > SLOW and who.name in NOTHING_TO_COMPILE):
                    times[who.key].append(seconds)
    counted = {key: Result(np.array(seconds)) for key, seconds in times.items() if key not in outcomes}
    return outcomes | counted


def _command(program: Program, who: Contender, stand: Stand) -> list[str]:
    quick = stand.settings.quick
    return program.nnfast_command(*who.args, quick) if who.nnfast else program.book_command(quick)


def _run(command: list[str], folder: str, stand: Stand) -> tuple[str, float]:
    """What a process printed, and the seconds from its start to its exit."""
    settings = environment(stand.settings.threads, **stand.caches)
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=True, timeout=600)
    return done.stdout, time.perf_counter() - begin


# ---- to an accuracy -------------------------------------------------------------------------------------------------


def measure_digits(group: Group, taking: Sequence[Contender], stand: Stand) -> Mapping[str, Outcome]:
    """Seconds of the training alone; each round begins anew from the same weights."""
    outcomes: dict[str, Outcome] = {}
    found: dict[str, list[dict[str, Any]]] = {who.key: [] for who in taking}
    for r in range(1 if stand.settings.quick else DIGITS_ROUNDS):
        for who in taking:
            if who.key in outcomes or (r > 0 and _longest(found[who.key]) > DIGITS_SLOW):
                continue
            try:
                answer = stand.worker(who).ask("call", "peers.to_accuracy", "timed", who.module, who.args, LIMIT_EPOCHS)
            except Failed as error:
                stand.dismiss(who)
                outcomes[who.key] = (Refused if who.nnfast else LeftOut)(str(error))
                continue
            if answer["epochs"] is None:
                outcomes[who.key] = Refused(f"after {LIMIT_EPOCHS} epochs it was at {answer['accuracy']:.3f}")
            found[who.key].append(answer)
    for key, answers in found.items():
        if key not in outcomes:
            info = {name: answers[0][name] for name in ("epochs", "accuracy", "compile")}
            outcomes[key] = Result(np.array([answer["seconds"] for answer in answers]), info)
    return outcomes


def _longest(answers: Sequence[Mapping[str, Any]]) -> float:
    return max(answer["seconds"] for answer in answers)


# ---- company --------------------------------------------------------------------------------------------------------


def measure_company(group: Group, taking: Sequence[Contender], stand: Stand) -> Mapping[str, Outcome]:
    """Seconds with everything; what is left over the bare loop is in the info."""
    quick = stand.settings.quick
    epochs = COMPANY[group.case] // (100 if quick else 1)
    outcomes: dict[str, Outcome] = {}
    for who in taking:
        arguments = group.case, *who.args, 1 if quick else COMPANY_ROUNDS, epochs
        try:
            found = stand.worker(who).ask("call", "peers.company", "pairs", *arguments)
        except Failed as error:
            outcomes[who.key] = Refused(str(error))
            continue
        bare, whole, validating, saving = (np.array(found[p]) for p in ("bare", "whole", "validating", "saving"))
        over = (whole - validating - saving) / bare - 1
        info = {name: list(found[name]) for name in ("bare", "validating", "saving")}
        outcomes[who.key] = Result(whole, {**info, "over": over.tolist(), "epochs": epochs})
    return outcomes


def test_fit(entry: Entry, measured: Any) -> None:
    measured(entry)
