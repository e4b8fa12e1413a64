"""What more ranks gain: the cost of a step measured here, that of an all-reduce from a model, both put together.

python docs/scaling.py PICTURE                            measures, on 1, 2 and 4 ranks, prints the tables and draws
mpiexec -n 2 python docs/scaling.py --measure FILE        what one of these jobs does

A step on p ranks costs what a rank computes for its rows of the batch, and one all-reduce of the gradient, n bytes. Of
the algorithms that MPICH chooses from (Thakur, Rabenseifner & Gropp 2005, doi:10.1177/1094342005051521), with α seconds
for a message, β and γ seconds for a byte sent and added up:

    recursive doubling    lg p · (α + n·β + n·γ)                            few bytes
    Rabenseifner          2·lg p · α + (p − 1)/p · (2·n·β + n·γ)            many

the model takes the faster. γ is part of β in what was measured here, and small beside it on a network.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

NETWORKS = {"small": (64, 64, 10), "medium": (784, 128, 10), "large": (784, 1024, 1024, 10)}
BATCH = 1024
RANKS = [2**k for k in range(11)]
SIZES = [8, 512, 8 << 10, 128 << 10, 1 << 20, 8 << 20, 32 << 20]  # bytes of an all-reduce
CORES = 2  # of the machine that this was measured on
ROUNDS = 7
SECONDS = 0.06  # of a round, about


class Network(NamedTuple):
    """A message costs `alpha` seconds, and `beta` more for each byte."""

    name: str
    alpha: float
    beta: float


# The first and the last: osu_latency and osu_bw on one cluster, MPICH over TCP and over UCX, February 2021,
# https://gist.github.com/jfgrimm/3af692a5475bdd4ed836b5a18197a209 (the bandwidths at 32 kB).
# The second: NetPIPE, Open MPI with usNIC, https://news-blogs.cisco.com/performance/mpi-over-40gb-ethernet.
REMOTE = [
    Network("1 Gb/s Ethernet, TCP", 25.4e-6, 1 / 0.116e9),
    Network("40 Gb/s Ethernet, kernel bypass", 1.93e-6, 1 / 4.65e9),
    Network("100 Gb/s InfiniBand", 0.95e-6, 1 / 10.3e9),
]


def all_reduce(ranks: int, size: int, network: Network) -> float:
    """Seconds for `size` bytes."""
    if ranks == 1:
        return 0.0
    turns = math.log2(ranks)
    doubling = turns * (network.alpha + size * network.beta)
    halving = 2 * turns * network.alpha + 2 * (ranks - 1) / ranks * size * network.beta
    return min(doubling, halving)


def fitted(sizes: list[int], seconds: list[float]) -> Network:
    """The α and β of this machine, from all-reduces of two ranks: both algorithms then send lg 2 = 1 or 2 messages."""
    alpha = min(seconds[:2])
    beta = float(np.median([(t - alpha) / n for n, t in zip(sizes[3:], seconds[3:], strict=True)]))
    return Network("this machine", alpha, beta)


def compute(rows: float, measured: dict[int, float]) -> float:
    """Seconds of a step of one rank on so many rows: between those measured, along a line in logarithms."""
    known = np.log(sorted(measured))
    return float(np.exp(np.interp(math.log(rows), known, [math.log(measured[r]) for r in sorted(measured)])))


def parameters(widths: tuple[int, ...]) -> int:
    return sum((a + 1) * b for a, b in pairwise(widths))


def predicted(
    name: str, ranks: int, measured: dict[int, float], network: Network, *, weak: bool, cores: int = 0
) -> float:
    """Seconds per step; with `cores`, ranks beyond these take turns on them."""
    share = -(-ranks // cores) if cores else 1
    rows = BATCH if weak else BATCH / ranks
    return share * compute(rows, measured) + all_reduce(ranks, 4 * parameters(NETWORKS[name]), network)


# ---- measuring ------------------------------------------------------------------------------------------------------


def measure(file: str) -> None:
    """In an MPI job: the all-reduce at each size, and steps of each network; rank 0 writes the best of some rounds."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    found = {
        "all_reduce": [_reduce_seconds(comm, size // 4) for size in SIZES],
        "strong": {name: _step_seconds(comm, name, BATCH) for name in NETWORKS},
    }
    if comm.size == 1:
        rows = [BATCH // r for r in RANKS[2::2]]
        found["rows"] = {name: {n: _step_seconds(comm, name, n) for n in rows} for name in NETWORKS}
    else:
        found["weak"] = {name: _step_seconds(comm, name, BATCH * comm.size) for name in NETWORKS}
    if comm.rank == 0:
        Path(file).write_text(json.dumps(found), encoding="utf-8")


def _reduce_seconds(comm, elements: int) -> float:
    array, times = np.zeros(max(elements, 2), np.float32), []
    count = max(3, min(200, int(2e7 / (array.nbytes + 1e4))))
    for _ in range(ROUNDS):
        comm.Barrier()
        begin = time.perf_counter()
        for _ in range(count):
            comm.Allreduce(None, array)
        times.append((time.perf_counter() - begin) / count)
    return min(times)


def _step_seconds(comm, name: str, rows: int) -> float:
    """A step of a batch of so many rows in all: what a `fit` of many takes longer than a `fit` of one, by the steps.

    One rank, which waits for nobody, is measured in seconds of its CPU: other programs do not count then.
    """
    import nnfast as nn

    clock = time.process_time if comm.size == 1 else time.perf_counter
    widths = NETWORKS[name]
    draw = np.random.default_rng(0)
    x, y = draw.standard_normal((rows, widths[0])).astype(np.float32), draw.integers(0, widths[-1], rows)
    layers = []
    for a, b in pairwise(widths):
        layers += [nn.Dense(a, b, "he_normal"), nn.ReLU()]
    model = nn.Model(layers[:-1], nn.SoftmaxCrossEntropy(), nn.Adam(1e-4), backend="numba", rng=0)

    def taken(epochs: int) -> float:
        comm.Barrier()
        begin = clock()
        model.fit(x, y, epochs=epochs, verbose=0, comm=comm)
        return clock() - begin

    taken(1)  # warms up
    one, count = min(taken(1), taken(1)), 1
    while comm.bcast(taken(1 + count) - one < SECONDS / 2 and count < 5000, root=0):
        count *= 3
    rounds = comm.bcast(ROUNDS if one < 0.3 else 3, root=0)
    return max(0.0, min(taken(1 + count) for _ in range(rounds)) - one) / count


def jobs() -> dict[int, dict]:
    """What `measure` finds on 1, 2 and 4 ranks, a thread each."""
    own = Path(sysconfig.get_path("scripts")) / "mpiexec"
    mpiexec = str(own) if own.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        raise SystemExit("there is no mpiexec: pip install 'nnfast[mpi]'")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for ranks in (1, 2, 4):
            file = f"{folder}/{ranks}.json"
            call = [mpiexec, "-n", str(ranks), sys.executable, __file__, "--measure", file]
            subprocess.run(call, check=True, env=os.environ | {"NNFAST_NUM_THREADS": "1"})
            found[ranks] = json.loads(Path(file).read_text(encoding="utf-8"))
    return found


# ---- showing --------------------------------------------------------------------------------------------------------


def steps_of(found: dict[int, dict], name: str) -> dict[int, float]:
    """Seconds of a step on one rank by rows."""
    return {int(n): t for n, t in found[1]["rows"][name].items()} | {BATCH: found[1]["strong"][name]}


def show(found: dict[int, dict]) -> None:
    here = fitted(SIZES, found[2]["all_reduce"])
    several = [ranks for ranks in found if ranks > 1]
    print(f"All-reduce here, 2 ranks: α = {1e6 * here.alpha:.1f} µs, 1/β = {1e-9 / here.beta:.1f} GB/s")
    print("µs, measured and as the model says; 4 ranks share 2 cores\n")
    print(f"{'bytes':>10}" + "".join(f"{f'{ranks} ranks':>24}" for ranks in several))
    for i, size in enumerate(SIZES):
        pairs = [(found[r]["all_reduce"][i], all_reduce(r, size, here)) for r in several]
        print(f"{size:>10}" + "".join(f"{1e6 * t:>12.1f} ({1e6 * said:>8.1f})" for t, said in pairs))
    print("\nms per step: one rank in seconds of its CPU; several measured, and as the model says")
    print(
        f"{'network':<8}{'parameters':>11}  {'scaling':<8}{'1 rank':>9}"
        + "".join(f"{f'{r} ranks':>20}" for r in several)
    )
    for name, widths in NETWORKS.items():
        steps = steps_of(found, name)
        for kind in ("strong", "weak"):
            line = f"{name:<8}{parameters(widths):>11,}  {kind:<8}{1e3 * steps[BATCH]:>9.2f}"
            for r in several:
                said = predicted(name, r, steps, here, weak=kind == "weak", cores=CORES)
                measured = found[r].get(kind, {}).get(name)
                line += f"{'–' if measured is None else f'{1e3 * measured:.2f}':>10} ({1e3 * said:>7.2f})"
            print(line)
    print(f"\nPredicted: times as fast as one rank, strong scaling of a batch of {BATCH} rows, one core per rank")
    print(f"{'network':<8}  {'over':<34}" + "".join(f"{r:>7}" for r in RANKS[1::2]) + "   at most")
    for name in NETWORKS:
        steps = steps_of(found, name)
        for network in REMOTE:
            gains = {r: steps[BATCH] / predicted(name, r, steps, network, weak=False) for r in RANKS}
            best = max(gains, key=gains.__getitem__)
            row = "".join(f"{gains[r]:>7.1f}" for r in RANKS[1::2])
            print(f"{name:<8}  {network.name:<34}{row}   {gains[best]:.1f} ({best})")
    print("\nPredicted: rows of a batch from which on 4 ranks are at least twice as fast as one")
    for name in NETWORKS:
        steps = steps_of(found, name)
        for network in REMOTE:
            print(f"{name:<8}  {network.name:<34}{_pays(name, steps, network):>12}")
    _break_even(found)


def _break_even(found: dict[int, dict]) -> None:
    """Two ranks save half of 6·n·B/S seconds, and pay about 2·α + 4·n·β."""
    speed = 6 * parameters(NETWORKS["large"]) * BATCH / steps_of(found, "large")[BATCH]
    print(
        f"\nTwo ranks beat one where B and n·B are above these (S = {1e-9 * speed:.0f}·10⁹ FLOP/s, the large model's)"
    )
    print(f"{'over':<34}{'B > 4/3·β·S':>14}{'n·B > 2/3·α·S':>16}")
    for network in REMOTE:
        rows, both = 4 / 3 * network.beta * speed, 2 / 3 * network.alpha * speed
        print(f"{network.name:<34}{rows:>14,.0f}{both:>16,.0f}")


def _pays(name: str, steps: dict[int, float], network: Network) -> str:
    size = 4 * parameters(NETWORKS[name])
    for rows in (2**k for k in range(4, 11)):
        if compute(rows, steps) >= 2 * (compute(rows / 4, steps) + all_reduce(4, size, network)):
            return str(rows)
    return f"above {BATCH}"


def draw(found: dict[int, dict], picture: str) -> None:
    """Dots are measured, lines are predicted."""
    from nnfast.pictures import drawing

    with drawing.style():
        figure = drawing.figure("Data parallel: dots measured here, lines predicted", 12, 7.4)
        axes = figure.subplots(2, 3, sharex=True, sharey="row")
        for column, name in enumerate(NETWORKS):
            steps = steps_of(found, name)
            for row, weak in enumerate((False, True)):
                _panel(axes[row][column], found, name, steps, weak=weak)
            axes[0][column].set_title(f"{name}: {'-'.join(map(str, NETWORKS[name]))}")
            axes[1][column].set_xlabel("ranks")
        axes[0][0].set_ylabel(f"times as fast, {BATCH} rows in all")
        axes[1][0].set_ylabel(f"efficiency, {BATCH} rows per rank")
        axes[0][2].legend(loc="upper left", fontsize=8)
        figure.savefig(picture)


def _panel(ax, found: dict[int, dict], name: str, steps: dict[int, float], *, weak: bool) -> None:
    from nnfast.pictures.drawing import COLOURS, GREY

    def gain(ranks: int, seconds: float) -> float:
        return steps[BATCH] / seconds

    here = fitted(SIZES, found[2]["all_reduce"])
    if not weak:
        ax.plot(RANKS, RANKS, color=GREY, linewidth=0.8, label="ideal")
    for network, colour in zip(REMOTE, COLOURS, strict=False):
        times = [predicted(name, r, steps, network, weak=weak) for r in RANKS]
        ax.plot(
            RANKS,
            [gain(r, t) for r, t in zip(RANKS, times, strict=True)],
            color=colour,
            label=f"predicted: {network.name}",
        )
    kind = "weak" if weak else "strong"
    few = [1, *(ranks for ranks in found if kind in found[ranks] and ranks > 1)]
    times = [predicted(name, r, steps, here, weak=weak, cores=CORES) for r in few]
    ax.plot(
        few,
        [gain(r, t) for r, t in zip(few, times, strict=True)],
        color="black",
        linestyle=":",
        label="predicted: here, 2 cores",
    )
    times = [steps[BATCH], *(found[r][kind][name] for r in few[1:])]
    ax.plot(few, [gain(r, t) for r, t in zip(few, times, strict=True)], "o", color="black", label="measured here")
    ax.set_xscale("log", base=2)
    if not weak:
        ax.set_yscale("log", base=2)
    else:
        ax.set_ylim(0, 1.1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2])
    else:
        everything = jobs()
        show(everything)
        draw(everything, sys.argv[1])
