"""nnfast's scikit-learn estimators beside scikit-learn's: `fit` with everything that it checks, and one row at a time.

Both train in float64 with the same arguments and draws, so losses and test score must be the same, up to rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from cases.estimators import CASES, QUICK, same
from measuring.groups import Entry, Group, Outcome, Wrong, timed
from measuring.stand import Contender, Stand
from measuring.workers import Worker

SUITE = "estimators"
FRESH = True  # peers/scikit_learn.py has changed scikit-learn itself in the processes of the suites before
THEIRS = "sklearn.neural_network"
MAKERS = {"fit": "fitting", "one row": "one_row"}
UNITS = {"fit": "fit", "one row": "call"}


def groups(stand: Stand) -> Iterator[Group]:
    if find_spec("sklearn") is None:
        stand.left_out["estimators"] = "they are scikit-learn's (pip install nnfast[bench])"
        return
    mine = [name for name in stand.backends if name != "numpy" or len(stand.backends) == 1]
    taking = [Contender(name, f"nnfast, {name}", "peers.estimators", ("nnfast.sklearn", name), True) for name in mine]
    taking += [taking[0].again()]
    if stand.settings.wants("scikit_learn"):
        taking.insert(0, Contender("scikit_learn", "scikit-learn", "peers.estimators", (THEIRS,)))
    for section in MAKERS:
        for name in [QUICK] if stand.settings.quick else [name for name in CASES if name != QUICK]:
            yield Group(SUITE, section, name, tuple(taking), measure, UNITS[section])


def measure(group: Group, taking: Sequence[Contender], stand: Stand) -> Mapping[str, Outcome]:
    maker = MAKERS[group.section]

    def ready(who: Contender, worker: Worker) -> dict[str, Any]:
        worker.make(who.module, maker, group.case, *who.args)
        worker.run(1)
        apart, close = same(worker.results(), judged(group.case, maker))
        if not close:
            raise Wrong(f"losses, score or probabilities are {apart:.1e} from scikit-learn's")
        return {"largest difference": apart}

    return timed(stand, taking, ready, stand.settings.pace(5, 0.1, 5.0), together=False)


@functools.cache
def judged(name: str, maker: str) -> list[Any]:
    """What scikit-learn's estimator comes to."""
    from peers import estimators

    subject = getattr(estimators, maker)(name, THEIRS)
    subject.run(1)
    found: list[Any] = subject.results()
    return found


def test_estimators(entry: Entry, measured: Any) -> None:
    measured(entry)
