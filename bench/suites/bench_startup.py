"""Starting: fresh processes, interleaved; the caches of the disk are warm.

"import" is read inside the process. "first step" too, after the import: building a 2-64-3 network and training it for
one step; in the first process of each a longer training proves the answer. In "first step, nothing compiled yet"
compilers find empty caches, once, as that takes long; libraries that keep nothing on the disk are not in it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peers
from measuring.groups import Entry, Group, LeftOut, Outcome, Refused, Result
from measuring.stand import Contender, Stand
from measuring.workers import environment

SUITE = "startup"
BENCH = str(Path(__file__).parent.parent)
CASE = "2-64-3, batch 300"
KEEPS_COMPILED = ("numba", "torch_compiled", "tinygrad_jit")  # those whose compilers keep what they made on the disk
COLD = "first step, nothing compiled yet"
ROUNDS, SLOW = 2, 1.0  # what takes longer than SLOW seconds is started once, and counts
PATIENCE = 3.0  # seconds: who takes longer until a step is made, imports included, is started once after the first time

IMPORT = "import time; begin = time.perf_counter(); import {module}; print(time.perf_counter() - begin)"
WRONG = 3  # exit status of a process whose answer is not the right one
FIRST = """
import sys, time
sys.path.insert(0, {bench!r})
from cases.networks import case, differences, judge
made = case({case!r})
import {package}
begin = time.perf_counter()
from {module} import trainer
trained = trainer(made, *{args!r})
trained.prepare(1)
trained.run(1)
taken = time.perf_counter() - begin
if sys.argv[1:] == ["prove"]:
    if hasattr(trained, "again"):  # it compiles: then it goes on with what that made
        for _ in range(1, made.checked_epochs):
            trained.run(1)
    else:
        trained = trainer(made, *{args!r})
        trained.prepare(made.checked_epochs)
        trained.run(made.checked_epochs)
    if not differences(trained.results(), judge(made))[2]:
        print("it does not train what the reference trains", file=sys.stderr)
        sys.exit({wrong})
print(taken)
"""


def groups(stand: Stand) -> Iterator[Group]:
    yield Group(SUITE, "import", "import", tuple(_imports(stand)), measure, "start")
    first = tuple(_firsts(stand))
    cold = tuple(who for who in first if who.name in KEEPS_COMPILED)
    if cold and not stand.settings.quick:  # it comes first: what it compiles, the next group finds
        yield Group(SUITE, COLD, "first step after the import", cold, measure, "start")
    yield Group(SUITE, "first step", "first step after the import", first, measure, "start")


def _imports(stand: Stand) -> Iterator[Contender]:
    for module in ("numpy", "nnfast"):
        yield Contender(module, module, "", (IMPORT.format(module=module),), nnfast=module == "nnfast")
    packages = {}
    for who in stand.contenders(ours="nnfast_fit", kind="train", twin=False):
        if not who.nnfast:
            packages[peers.named(who.name).packages[0]] = who.title.partition(",")[0]
    for package, title in packages.items():
        if package != "numpy":
            yield Contender(package, title, "", (IMPORT.format(module=package),))


def _firsts(stand: Stand) -> Iterator[Contender]:
    for who in stand.contenders(ours="nnfast_fit", kind="train", twin=False):
        # The library is imported before the clock starts; of Keras only its backend, as its own file says which one.
        package = "nnfast" if who.nnfast else peers.named(who.name).packages[-1]
        code = FIRST.format(bench=BENCH, case=CASE, package=package, module=who.module, args=who.args, wrong=WRONG)
        yield Contender(who.name, who.title, "", (code,), who.nnfast)


def measure(group: Group, taking: Sequence[Contender], stand: Stand) -> Mapping[str, Outcome]:
    cold, quick, imports = group.section == COLD, stand.settings.quick, group.section == "import"
    outcomes: dict[str, Outcome] = {}
    times: dict[str, list[float]] = {who.key: [] for who in taking}
    whole: dict[str, float] = {}  # seconds of each one's last process
    for r in range(1 if cold or quick else 1 + ROUNDS):
        for who in taking:
            if who.key in outcomes or max(times[who.key], default=0.0) > SLOW:
                continue
            if r > 1 and whole[who.key] > PATIENCE:
                continue
            begin = time.perf_counter()
            try:
                seconds = _start(who, stand, *(["prove"] if r == 0 and not cold else []))
            except subprocess.CalledProcessError as error:
                words = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
                outcomes[who.key] = (Refused if who.nnfast or error.returncode == WRONG else LeftOut)(words)
                continue
            whole[who.key] = time.perf_counter() - begin
            # The first round fills the caches; to who is slow even so, what it read from the disk makes no difference.
            if r > 0 or cold or quick or (seconds > SLOW and not imports):
                times[who.key].append(seconds)
    done = {key: Result(np.array(seconds)) for key, seconds in times.items() if key not in outcomes}
    return outcomes | done


def _start(who: Contender, stand: Stand, *more: str) -> float:
    """Run one process; the seconds that it printed. Where this suite is the first, the caches are empty at first."""
    command = [sys.executable, "-c", *who.args, *more]
    settings = environment(stand.settings.threads, **stand.caches)
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=True, timeout=300)
    return float(done.stdout.split()[-1])


def test_startup(entry: Entry, measured: Any) -> None:
    measured(entry)
