"""The stand: what a whole run shares. Settings, the processes of the contenders, and the machine's limits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

import peers

from measuring.machine import facts
from measuring.rounds import Pace
from measuring.workers import Worker, Workers, caches_in
from nnfast.threads import cpu_count

__all__ = ["SUITES", "Contender", "Settings", "Stand", "backends"]

# In the order in which they run; what the first one compiles into empty caches, the others find.
SUITES = ("startup", "steps", "ops", "fit", "estimators", "latency", "memory", "scaling", "population")
QUICK_PEERS = ("book", "scikit_learn")


@dataclass(frozen=True)
class Contender:
    """Who computes: the module of `peers` that its process loads, and what beside the case is handed to it."""

    name: str
    title: str
    module: str
    args: tuple[Any, ...] = ()
    nnfast: bool = False
    twin: bool = False  # the same once more, to see how far two equals lie apart

    @property
    def key(self) -> str:
        return f"{self.name}-again" if self.twin else self.name

    def again(self) -> Contender:
        return Contender(self.name, f"{self.title}, again", self.module, self.args, self.nnfast, twin=True)


@dataclass(frozen=True)
class Settings:
    """What was asked for."""

    quick: bool = False
    suites: tuple[str, ...] = SUITES
    backends: tuple[str, ...] = ()  # none: all that work here on a CPU
    peers: tuple[str, ...] | None = None  # None: all that are installed, or in a quick run QUICK_PEERS
    threads: int = field(default_factory=lambda: min(2, cpu_count()))

    def pace(self, rounds: int, seconds: float, at_most: float = 30.0) -> Pace:
        return Pace(3, 0.002, 5.0) if self.quick else Pace(rounds, seconds, at_most)

    def wants(self, peer: str) -> bool:
        if self.peers is None:
            return not self.quick or peer in QUICK_PEERS
        return peer in self.peers


def backends(asked: tuple[str, ...]) -> list[str]:
    """The backends of nnfast to measure: those asked for, else all that work here on the CPU."""
    import nnfast as nn

    if asked:
        for name in asked:
            nn.get_backend(name)  # one that does not work says why
        return list(asked)
    works = [name for name, available in nn.available_backends().items() if available]
    return [name for name in works if nn.get_backend(name).device == "cpu"]


class Stand:
    """Made once per run; `close` ends all processes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.facts = facts(settings.threads)  # first of all: it says how busy the machine was
        self.backends = backends(settings.backends)
        self.left_out: dict[str, str] = {}  # title: why
        self._exit = ExitStack()
        self._folders: dict[str, str] = {}
        # A quick run measures nothing, so it may find compiled what was compiled before.
        self.caches = {} if settings.quick else caches_in(self.folder("caches"))
        self._crew: dict[tuple[str, int], tuple[Worker, Workers]] = {}
        self._limits: dict[str, float] = {}
        self._bandwidths: dict[int, float] = {}

    def close(self) -> None:
        self._dismiss(*self._crew)
        self._exit.close()

    def folder(self, name: str) -> str:
        """A folder of this name, empty when it is first asked for, gone when the run ends."""
        if name not in self._folders:
            self._folders[name] = self._exit.enter_context(TemporaryDirectory(prefix=f"nnfast-bench-{name}-"))
        return self._folders[name]

    # ---- who takes part ---------------------------------------------------------------------------------------------

    def contenders(self, *, ours: str, kind: str, twin: bool = True, only: tuple[str, ...] = ()) -> list[Contender]:
        """nnfast on its backends through the module `ours`, once more for the noise, and the peers of a kind.

        `only` restricts the peers, unless some were asked for by name.
        """
        found = []
        for peer in peers.of(kind):
            if not self.settings.wants(peer.name) or (only and self.settings.peers is None and peer.name not in only):
                continue
            reason = peer.missing()
            if reason is None:
                found.append(Contender(peer.name, peer.title, f"peers.{peer.module(kind)}"))
            else:
                self.left_out[peer.title] = reason
        mine = [Contender(name, f"nnfast, {name}", f"peers.{ours}", (name,), nnfast=True) for name in self.backends]
        if twin and mine:
            from nnfast.registry import AUTO

            first = next((c for name in AUTO for c in mine if c.name == name), mine[0])
            mine.append(first.again())
        return found + mine

    # ---- their processes --------------------------------------------------------------------------------------------

    def worker(self, who: Contender, threads: int | None = None) -> Worker:
        """The contender's process, started when it is first asked for. One that failed gets a new one."""
        n = threads or self.settings.threads
        key = who.key, n
        if key not in self._crew:
            pool = Workers(n, self.caches)
            self._crew[key] = pool.start(), pool
        return self._crew[key][0]

    def dismiss(self, who: Contender) -> None:
        """End a contender's processes."""
        self._dismiss(*(key for key in self._crew if key[0] == who.key))

    def dismiss_all(self) -> None:
        """End everybody's: the next group begins with fresh processes."""
        self._dismiss(*(key for key in self._crew if key[0] != METER.key))

    def _dismiss(self, *keys: tuple[str, int]) -> None:
        """All at the same time: some libraries take a second to leave."""
        pools = [self._crew.pop(key)[1] for key in keys]
        with ThreadPoolExecutor(max(1, len(pools))) as pool:
            list(pool.map(lambda each: each.__exit__(None, None, None), pools))

    # ---- the machine ------------------------------------------------------------------------------------------------

    @property
    def limits(self) -> dict[str, float]:
        """The machine's limits: the best seen so far."""
        if not self._limits:
            self.measure_limits()
        return self._limits

    def measure_limits(self) -> None:
        """Once more; times count as limits where they are small, rates where they are large."""
        meter = self.worker(METER)
        new = meter.ask("call", "measuring.machine", "limits", self.settings.threads, self.settings.quick)
        for name, value in new.items():
            best = min if name.startswith("seconds") else max
            self._limits[name] = best(value, self._limits.get(name, value))

    def bandwidth(self, working_set: int) -> float:
        """Bytes per second over arrays of this size together, rounded to a power of two."""
        size = 1 << max(15, (working_set - 1).bit_length())
        if size not in self._bandwidths:
            repeats = 3 if self.settings.quick else 10
            arguments = "measuring.machine", "bandwidth", min(size, 1 << 28), self.settings.threads, repeats
            self._bandwidths[size] = self.worker(METER).ask("call", *arguments)
        return self._bandwidths[size]

    def floor(self, flops: int, moved: int) -> float:
        """Seconds for so many FLOPs in float32 and bytes: the larger of what both take."""
        return max(flops / self.limits["float32 flops per second"], moved / self.bandwidth(moved))

    def step_floor(self, program: Any, rows: int, working_set: int) -> float:
        """Seconds that a step of a Program takes at least, op by op; fused ops may go below."""
        flops = self.limits["float32 flops per second"]
        return float(
            program.floor(rows, flops_per_second=flops, bytes_per_second=self.bandwidth(working_set)),
        )


METER = Contender("meter", "the machine's limits", "measuring.machine")
