"""From groups to pytest-benchmark: one test per contender, whose rounds were measured in turn with the others'.

pytest-benchmark runs all rounds of one benchmark and then all of the next. Here the first test of a group measures
everybody in the group, interleaved, each in a process of its own; each test then hands its rounds to pytest-benchmark
through a clock that shows what the contender's own clock showed. Statistics and JSON are pytest-benchmark's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from measuring.groups import Entry, LeftOut, Outcome, Refused, entries
from measuring.stand import SUITES, Settings, Stand
from peers import PEERS
from report.live import line
from report.records import FORMAT

STAND = pytest.StashKey[Stand]()


class Clock:
    """A clock that is moved by hand: to the end of a round that was measured elsewhere."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now = seconds  # from 0, so that no digit is lost

    def rewind(self) -> None:
        self.now = 0.0


CLOCK = Clock()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nnfast")
    group.addoption("--quick", action="store_true", help="a few short rounds of the smallest cases: does it run?")
    group.addoption("--suite", action="append", choices=SUITES, help="one of several (default: all)")
    group.addoption("--backends", default="", metavar="NAME,…", help="of nnfast (default: all that work here)")
    group.addoption("--peers", metavar="NAME,…", help="(default: all that are installed; none: nobody)")
    group.addoption("--threads", type=int, metavar="N", help="of everybody (default: 2, or 1 where there is one CPU)")


def settings_of(config: pytest.Config) -> Settings:
    from nnfast.threads import cpu_count

    asked = config.getoption("--peers")
    chosen = None if asked is None else tuple(name for name in asked.split(",") if name and name != "none")
    unknown = set(chosen or ()) - {peer.name for peer in PEERS}
    if unknown:
        known = ", ".join(peer.name for peer in PEERS)
        raise pytest.UsageError(f"--peers {', '.join(sorted(unknown))}: expected some of {known}, or none")
    threads = config.getoption("--threads") or min(2, cpu_count())
    if not 1 <= threads <= cpu_count():
        raise pytest.UsageError(f"--threads {threads}: this process may use {cpu_count()} CPUs")
    return Settings(
        quick=config.getoption("--quick"),
        suites=tuple(config.getoption("--suite") or SUITES),
        backends=tuple(name for name in config.getoption("--backends").split(",") if name),
        peers=chosen,
        threads=threads,
    )


def pytest_configure(config: pytest.Config) -> None:
    from nnfast.errors import NnfastError

    try:
        config.stash[STAND] = Stand(settings_of(config))
    except NnfastError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_unconfigure(config: pytest.Config) -> None:
    if STAND in config.stash:
        config.stash[STAND].close()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    suite = collection_path.stem.removeprefix("bench_")
    return True if suite in SUITES and suite not in config.stash[STAND].settings.suites else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "entry" in metafunc.fixturenames:
        metafunc.parametrize("entry", entries(metafunc.module.groups(metafunc.config.stash[STAND])), ids=str)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: SUITES.index(item.path.stem.removeprefix("bench_")))
    for item in items:
        item.add_marker(pytest.mark.benchmark(timer=CLOCK))


@pytest.fixture(scope="session")
def stand(request: pytest.FixtureRequest) -> Stand:
    return request.config.stash[STAND]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, stand: Stand) -> dict[str, Any]:
    """What the groups of one suite came to, by title. Processes go on to the next suite, unless that says FRESH."""
    if getattr(request.module, "FRESH", False):
        stand.dismiss_all()
    return {}


@pytest.fixture
def measured(
    request: pytest.FixtureRequest, stand: Stand, outcomes: dict[str, Any], benchmark: Any
) -> Callable[[Entry], None]:
    """Measures the entry's group when its first entry comes, and hands the entry's rounds to pytest-benchmark."""

    def hand_over(entry: Entry) -> None:
        group = entry.group
        if group.title not in outcomes:
            asked = [item.callspec.params.get("entry") for item in request.session.items if hasattr(item, "callspec")]
            taking = [each.who for each in asked if isinstance(each, Entry) and each.group is group]
            outcomes[group.title] = None, dict.fromkeys((who.key for who in taking), Refused("its group failed"))
            floor = None if group.floor is None else group.floor(stand)
            outcomes[group.title] = floor, group.measure(group, taking, stand)
            _say(request.config, line(group, *outcomes[group.title]))
        floor, found = outcomes[group.title]
        _replay(entry, found[entry.who.key], floor, benchmark, stand)

    return hand_over


def _say(config: pytest.Config, text: str) -> None:
    """To the terminal, though pytest keeps what a test prints."""
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        config.pluginmanager.getplugin("terminalreporter").write_line(text)


def _replay(entry: Entry, outcome: Outcome, floor: float | None, benchmark: Any, stand: Stand) -> None:
    group, who = entry.group, entry.who
    if isinstance(outcome, LeftOut):
        stand.left_out[f"{who.title}: {group.title}"] = outcome.reason
        pytest.skip(f"{who.title}: {outcome.reason}")
    if isinstance(outcome, Refused):
        pytest.fail(f"{group.title}: {who.title}: {outcome.reason}; it was not timed", pytrace=False)
    benchmark.group = group.title
    benchmark.extra_info.update(
        suite=group.suite, section=group.section, case=group.case, unit=group.unit, floor=floor, axis=group.axis,
        x=group.x, contender=who.name, title=who.title, nnfast=who.nnfast, twin=who.twin, **outcome.info,
    )  # fmt: skip
    rounds = iter(outcome.seconds.tolist())
    benchmark.pedantic(lambda: CLOCK.advance(next(rounds)), setup=CLOCK.rewind, rounds=len(outcome.seconds))


# ---- the record ----------------------------------------------------------------------------------------------------


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    return config.stash[STAND].facts


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    stand = config.stash[STAND]
    stand.measure_limits()
    output_json["nnfast"] = {
        "format": FORMAT,
        "quick": stand.settings.quick,
        "limits": stand.limits,
        "left out": stand.left_out,
        "settings": {name: value for name, value in vars(stand.settings).items() if value not in (None, ())},
    }
    for benchmark in output_json["benchmarks"]:
        del benchmark["options"], benchmark["params"], benchmark["param"]


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """No dot for a test that passed: the suite says its own line for each group."""
    return (report.outcome, "", report.outcome.upper()) if report.when == "call" and report.passed else None
