"""Prints the floor of a step for some networks on two machines, and which of their limits holds."""

from __future__ import annotations

import itertools

import nnfast as nn
from nnfast.profiling.report import duration
from nnfast.text import table

NETWORKS = [((2, 64, 3), 300), ((784, 128, 10), 1), ((784, 128, 10), 128), ((784, 512, 512, 10), 512)]
SLOW, FAST, MEMORY = 1e11, 3e11, 4e10  # FLOPs and bytes per second


def program_of(widths: tuple[int, ...]) -> nn.Program:
    layers: list[nn.Layer] = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        layers += [nn.ReLU()] * (i > 0) + [nn.Dense(n_in, n_out)]
    return nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(), backend="numpy", rng=0).program


def main() -> None:
    rows = []
    for widths, batch in NETWORKS:
        program = program_of(widths)
        costs = program.costs(batch)
        slow, fast = (program.floor(batch, flops_per_second=f, bytes_per_second=MEMORY) for f in (SLOW, FAST))
        intensity = sum(c.flops for c in costs) / sum(c.bytes for c in costs)
        cells = [str(batch), f"{intensity:.2f}", duration(slow), duration(fast), f"{slow / fast:.2f}"]
        rows.append(["-".join(map(str, widths)), *cells])
    head = ["network", "batch", "FLOPs per byte", "100 GFLOP/s, 40 GB/s", "300 GFLOP/s, 40 GB/s", "quotient"]
    print(table(head, rows, right=(1, 2, 3, 4, 5)))


if __name__ == "__main__":
    main()
