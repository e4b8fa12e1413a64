"""Prints what each backend does with each op, as `Model.backend_report()` says it of models that have them all.

For CuPy that is the plan of a step for float32, which needs no GPU.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import nnfast as nn
from nnfast.protocol import OPS, OpReport

ACTIVATIONS = [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Softplus, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.Softmax]
LOSSES = {  # and the metrics that go with each
    nn.SoftmaxCrossEntropy: ["accuracy", nn.metrics.top_k(2)],
    nn.SigmoidBinaryCrossEntropy: ["binary_accuracy"],
    nn.MeanSquaredError: [nn.metrics.regression_accuracy(0.1), "mean_absolute_error", "r2"],
    nn.MeanAbsoluteError: [],
    nn.Huber: [],
    nn.Poisson: [],
}
OPTIMIZERS = [nn.SGD, nn.Adagrad, nn.RMSprop, nn.Adam, nn.RandomSearch]
BACKENDS = ("numpy", "numba", "cupy")


def models() -> Iterator[nn.Model]:
    """Small models that have every op between them. An activation right behind a Dense is fused into it where it can
    be; behind a Dropout it is an op of its own."""
    for activation in ACTIVATIONS:
        layers = [nn.Dense(4, 4), nn.Standardize(0, 1, n_inputs=4), nn.Dropout(0.1), activation(), nn.Dense(4, 3)]
        yield nn.Model(layers, nn.SoftmaxCrossEntropy(), nn.Adam(), rng=0)
        yield nn.Model([nn.Dense(4, 4), activation(), nn.Dense(4, 3)], nn.SoftmaxCrossEntropy(), nn.Adam(), rng=0)
    for loss, metrics in LOSSES.items():
        yield nn.Model([nn.Dense(4, 3)], loss(), nn.Adam(), metrics, rng=0)
    yield nn.Model([nn.Dense(4, 3), nn.Softmax()], nn.CategoricalCrossEntropy(), nn.Adam(), rng=0)
    yield nn.Model([nn.Dense(4, 3), nn.Sigmoid()], nn.BinaryCrossEntropy(), nn.Adam(), rng=0)
    # As scikit-learn has it: the penalty is divided by the sum of the batch's weights.
    estimator = importlib.import_module("nnfast.sklearn.network")
    yield nn.Model([estimator.PerWeightDense(4, 3, weight_l2=0.1)], nn.SoftmaxCrossEntropy(), nn.Adam(), rng=0)
    for optimizer in OPTIMIZERS:
        yield nn.Model([nn.Dense(4, 3)], nn.SoftmaxCrossEntropy(), optimizer(), rng=0)


def reports(program: nn.Program, backend: str) -> list[OpReport]:
    """Who runs each op of the program."""
    if backend == "cupy":
        return importlib.import_module("nnfast.kernels.cupy_gpu.report").report_of(program, None)
    return nn.get_backend(backend).compile(program).report()


def who(report: OpReport, backend: str) -> str:
    """What stands in the table for a line of a report."""
    if backend == "cupy":
        return report.implementation
    compiled, _, name = report.implementation.rpartition(": ")
    return f"{compiled or 'NumPy'}, {name.split('.')[-2]}.py"


def variants(op: str) -> str:
    """How many functions Numba compiles for an op with attributes: for a dense layer, one for each fused activation."""
    table = importlib.import_module("nnfast.kernels.numba_cpu.table")
    count = sum(name == op and not pieces for name, _, pieces in table.variants())
    return f" ({count} by {' and '.join(OPS[op].attributes)})" if count > 1 else ""


def main() -> None:
    found: dict[str, dict[str, dict[str, None]]] = {op: {name: {} for name in BACKENDS} for op in OPS}
    for model in models():
        for backend in BACKENDS:
            for report in reports(model.program, backend):
                found[report.op][backend][who(report, backend)] = None
    print("| op | computes | numpy | numba | cupy |")
    print("|---|---|---|---|---|")
    for op, spec in OPS.items():
        numpy, numba, cupy = (", or ".join(found[op][backend]) or "–" for backend in BACKENDS)
        print(f"| `{op}` | {spec.equation.replace('|', chr(92) + '|')} | {numpy} | {numba}{variants(op)} | {cupy} |")


if __name__ == "__main__":
    main()
