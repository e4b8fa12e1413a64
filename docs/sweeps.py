"""A sweep of 16 trainings in several ways, and many processes that start with a cold cache: figures for clusters.md.

python docs/sweeps.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from statistics import median

import joblib
from distributed import Client, LocalCluster

import nnfast as nn

RATES = [0.005 * 1.1**k for k in range(16)]
X, Y = nn.datasets.spiral(100, 3, 0)
ROUNDS = 3

# What each worker of a cold start does: one process says how many functions it compiled, and how long that took.
COLD = """
import importlib, time
begin = time.perf_counter()
import nnfast as nn
X, Y = nn.datasets.spiral(100, 3, 0)
layers = [nn.Dense(2, 64), nn.ReLU(), nn.Dense(64, 3)]
model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(0.05), ["accuracy"], backend="numba", rng=0)
model.fit(X, Y, epochs=1, batch_size=32, verbose=0)
cache = importlib.import_module("nnfast.kernels.numba_cpu.cache")
print(cache.statistics().misses, time.perf_counter() - begin)
"""


def train(rate: float) -> float:
    layers = [nn.Dense(2, 64), nn.ReLU(), nn.Dense(64, 3)]
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(rate), ["accuracy"], backend="numba", rng=0)
    model.fit(X, Y, epochs=1000, batch_size=100, verbose=0)
    return model.history.history["loss"][-1]


def sweep(**options: object) -> list[float]:
    return joblib.Parallel(**options)(joblib.delayed(train)(rate) for rate in RATES)


def timed(call: object) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def cold(processes: int) -> tuple[float, int]:
    """Seconds until all have trained, and functions compiled by all together."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NNFAST_CACHE_DIR": folder, "NNFAST_NUM_THREADS": "1"}
        call = [sys.executable, "-W", "ignore", "-c", COLD]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        begin = time.perf_counter()
        running = [subprocess.Popen(call, env=environment, **pipes) for _ in range(processes)]
        said = [process.communicate()[0].split() for process in running]
        return time.perf_counter() - begin, sum(int(misses) for misses, _ in said)


def main() -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        ways = {
            "one process, one thread": lambda: sweep(n_jobs=1),
            "threads of joblib, 2": lambda: sweep(n_jobs=2, backend="threading"),
            "processes of joblib (loky), 2": lambda: sweep(n_jobs=2, backend="loky"),
            "Dask, 2 workers": lambda: dask_sweep(),
        }
        nn.set_num_threads(1)
        for way in ways.values():
            way()  # processes are there, and have loaded what they need
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                times[name].append(timed(way))
    base = median(times["one process, one thread"])
    print(f"{len(RATES)} trainings of 2-64-3, 300 rows, 1000 epochs in batches of 100; median of {ROUNDS}")
    for name, taken in times.items():
        print(f"{name:<32}{median(taken):>7.2f} s{base / median(taken):>7.2f} times as fast")
    print("\nProcesses that start together with a cold cache, until each has trained once")
    for processes in (1, 4):
        seconds, compiled = cold(processes)
        print(f"{processes} at once{seconds:>30.1f} s, {compiled} functions compiled")


def dask_sweep() -> list[float]:
    with joblib.parallel_config("dask"):
        return sweep()


if __name__ == "__main__":
    main()
