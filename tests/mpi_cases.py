"""Trainings that tests/test_mpi.py runs alone and, by `mpiexec -n 4 python tests/mpi_cases.py FOLDER NAME …`, on ranks.

Each is a function of the communicator (None: alone) and of a folder; what it returns is compared.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

import nnfast as nn
from nnfast.random import permutation
from nnfast.training.shares import sharded

X, Y = nn.datasets.spiral(40, 3, 0)
X = X.astype(np.float64)
TARGETS = np.concatenate([X[:, :1] * X[:, 1:], X[:, :1] + 3], axis=1)
WEIGHTS = np.random.default_rng(0).uniform(0, 2, len(X)) * (np.arange(len(X)) % 5 > 0)


def classifier(comm, backend="numpy", clip_norm=0.5, rng=0, **settings):
    """Only rank 0 draws the weights that count."""
    layers = [nn.Dense(2, 16, weight_l2=1e-3, bias_l1=1e-3), nn.ReLU(), nn.Dropout(0.2), nn.Dense(16, 3)]
    seed = rng if comm is None or comm.Get_rank() == 0 else 77 + comm.Get_rank()
    optimizer = settings.pop("optimizer", None) or nn.Adam(0.02, decay=1e-3, clip_norm=clip_norm)
    common = {"backend": backend, "dtype": "float64", "rng": seed}
    return nn.Model(layers, nn.SoftmaxCrossEntropy(), optimizer, ["accuracy"], **common | settings)


def regressor(comm, backend="numpy"):
    layers = [nn.Dense(2, 16), nn.Tanh(), nn.Dropout(0.1), nn.Dense(16, 2)]
    common = {"backend": backend, "dtype": "float64", "rng": 0}
    return nn.Model(layers, nn.MeanSquaredError(), nn.SGD(0.05, momentum=0.9), ["r2"], **common)


def trained(model, comm, x=X, y=Y, **options):
    options = {"epochs": 13, "batch_size": 32, "verbose": 0, "comm": comm} | options
    model.fit(x, y, **options)
    return outcome(model)


def outcome(model):
    slots = {f"slot {name}": np.array(model.backend.to_numpy(slot)) for name, slot in model._buffers.slots.items()}
    return {"parameters": model.parameters, "steps": model.optimizer.steps, **slots, **model.history.history}


def plain(comm, folder):
    """A short last batch, dropout, penalties, clipping: 52 steps."""
    return trained(classifier(comm), comm)


def compiled(comm, folder):
    return trained(classifier(comm, "numba"), comm)


def two_threads(comm, folder):
    """The norm of a clipped gradient is rounded by how it is shared out between threads, and so by rows."""
    before = nn.get_num_threads()
    nn.set_num_threads(2)
    layers = [nn.Dense(64, 8, "he_normal"), nn.ReLU(), nn.Dropout(0.2), nn.Dense(8, 10)]
    optimizer = nn.Adam(0.003, clip_norm=0.1)
    model = nn.Model(layers, nn.SoftmaxCrossEntropy(), optimizer, backend="numba", dtype="float64", rng=0)
    draw, runner = np.random.default_rng(0), model._programs.runner("train")[1]
    rows = next(n for n in range(1, 1000) if runner._shares(n) == 1 and runner._shares(n + 1) == 2)
    batch = 2 * rows + 1  # of two ranks, one works alone and the other one in two shares
    x, y = draw.standard_normal((2 * batch, 64)), draw.integers(0, 10, 2 * batch)
    try:
        return trained(model, comm, x, y, batch_size=batch, epochs=25)
    finally:
        nn.set_num_threads(before)


def weighted(comm, folder):
    return trained(classifier(comm, "numba"), comm, sample_weight=WEIGHTS, class_weight={0: 1, 1: 2, 2: 0.5})


def tiny_batches(comm, folder):
    """Fewer rows in a batch than ranks, and one row in the last."""
    return trained(classifier(comm, "numba"), comm, X[:10], Y[:10], batch_size=3)


def tiny_batches_in_order(comm, folder):
    return trained(classifier(comm), comm, X[:10], Y[:10], batch_size=3, shuffle=False)


def whole_set(comm, folder):
    return trained(regressor(comm), comm, y=TARGETS, batch_size=None, epochs=50)


def squares(comm, folder):
    return trained(regressor(comm, "numba"), comm, y=TARGETS, shuffle=False)


def accumulated(comm, folder):
    return trained(classifier(comm, "numba"), comm, batch_size=10, accumulate=5, epochs=20)


def validated(comm, folder):
    """Validation, and a stop that all ranks agree on."""
    stop = nn.EarlyStopping(patience=2, restore_best=True, min_delta=0.01)
    log = nn.CSVLogger(Path(folder) / f"log{comm.Get_size() if comm else 0}.csv")
    model = classifier(comm, "numba", clip_norm=None)
    data = {"validation_data": (X[::3], Y[::3]), "validation_every": 2}
    return trained(model, comm, callbacks=[stop, log], epochs=60, **data)


def split(comm, folder):
    data = {"validation_split": 0.2, "class_weight": "balanced"}
    return trained(classifier(comm), comm, **data, callbacks=[nn.ReduceLROnPlateau(patience=2)])


def from_disk(comm, folder):
    """Rows that stay in a file, in another dtype: read part by part."""
    path = Path(folder) / f"x{comm.Get_rank() if comm else 'alone'}.npy"
    np.save(path, X.astype(np.float32))
    return trained(classifier(comm), comm, np.load(path, mmap_mode="r"))


def on_a_device(comm, folder):
    """Arrays that are not on the host: gradients go by way of it."""
    from device_backends import Double

    return trained(classifier(comm, Double()), comm)


def on_gpus(comm, folder):
    """A GPU for each rank: gradients never leave them, also where they are accumulated. float64, as everything here."""
    return _on_gpus(comm, other_gpus=True)


def on_one_gpu(comm, folder):
    """All ranks on the same: that NCCL cannot do, so gradients go by way of the host."""
    return _on_gpus(comm, other_gpus=False)


def _on_gpus(comm, *, other_gpus):
    from gpu_models import simulated
    from simulator.fake_nccl import Nccl

    rank, ranks = (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())
    backend = simulated()
    backend.fake.cuda.nccl = library = Nccl(backend.fake.device, comm)
    backend.fake.cuda.runtime.deviceGetPCIBusId = lambda number: f"0000:{rank * other_gpus:02x}:00.{number}"
    made = {}
    for accumulate in (1, 2):
        seen = []
        model = classifier(comm, backend)
        end = trained(model, comm, epochs=3, accumulate=accumulate, on_gradients=seen.append)
        made |= {f"{accumulate}: {name}": value for name, value in end.items()}
        wanted = len(seen) if ranks > 1 and other_gpus else 0
        assert (library.sums, library.open) == (wanted, 0), f"{library.sums} sums, {library.open} left open"
        library.sums = 0
    return made


def hooked(comm, folder):
    """A hook sees the gradient of the whole batch, before it is clipped, and may change it."""
    seen = []

    def hook(flat):
        seen.append(np.linalg.norm(flat))
        flat *= 0.5

    return trained(classifier(comm), comm, on_gradients=hook) | {"norms": seen}


def in_shards(comm, folder):
    """Unequal shards; alone: the batches that these make, one after the other."""
    sizes, batch, epochs = np.array([17, 60, 1, 42]), 32, 13
    places = np.append(0, sizes.cumsum())
    model = classifier(comm)
    if comm is not None:
        own = slice(*places[comm.Get_rank() :][:2])
        weights = WEIGHTS[own] + 0.1
        aside = X[own][:5], Y[own][:5]
        more = {"sharded": True, "sample_weight": weights, "validation_data": aside}
        return trained(model, comm, X[own], Y[own], batch_size=batch, epochs=epochs, **more)
    batches = [[] for _ in range(epochs * 4)]
    for rank in range(4):
        shares = sharded(rank, sizes, batch)
        part = shares.parts(np.arange(shares.batches))
        for epoch in range(epochs):
            order = places[rank] + permutation(model._key, epoch + (rank << 64), sizes[rank])
            for k, (start, count) in enumerate(zip(part.start, part.own, strict=True)):
                batches[epoch * 4 + k].extend(order[start : start + count])
    everything = iter([(X[rows], Y[rows], WEIGHTS[rows] + 0.1) for rows in batches])
    aside = np.concatenate([np.arange(low, high)[:5] for low, high in pairwise(places)])
    data = {"steps_per_epoch": 4, "validation_data": (X[aside], Y[aside])}
    return trained(model, None, everything, None, batch_size=None, epochs=epochs, **data)


class Stop(nn.Callback):
    def __init__(self, step):
        self.every_steps = step

    def on_step(self, model, step):
        raise InterruptedError


def interrupted(comm, folder):
    """Ended in the midst of an epoch by an error of rank 1 alone, with a checkpoint of rank 0."""
    model = classifier(comm, "numba")
    path = Path(folder) / "run.nnfast"
    last = [Stop(22)] if comm.Get_rank() == 1 else []
    failed = ""
    try:
        trained(model, comm, callbacks=[*last, nn.ModelCheckpoint(path, every_steps=11)])
    except Exception as error:
        failed = f"{type(error).__name__}: {error}"
    return {"failed": failed, "steps": model.optimizer.steps}


def resumed(comm, folder):
    """Goes on from there; only rank 0 sees the file."""
    path = Path(folder) / ("run.nnfast" if comm is None or comm.Get_rank() == 0 else "nothing.nnfast")
    return trained(classifier(comm, "numba", rng=5), comm, resume=path)


def refused(comm, folder):
    """What every rank says where rank 1 was given something else."""
    odd = comm.Get_rank() == 1
    said = {}

    def attempt(name, model=None, x=X, y=Y, **options):
        model = model or classifier(comm)
        before = model.parameters.copy()
        try:
            trained(model, comm, x, y, **options)
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
        if name != "callback":  # the last to be asked, once the ranks are one
            assert (model.parameters == before).all()

    attempt("batch_size", batch_size=16 if odd else 32)
    attempt("epochs", epochs=2 if odd else 3)
    attempt("layers", nn.Model([nn.Dense(2, 4 + odd), nn.Dense(4 + odd, 3)], nn.SoftmaxCrossEntropy(), nn.SGD()))
    attempt("optimizer", classifier(comm, optimizer=nn.SGD(0.1) if odd else nn.Adam(0.1)))
    attempt("rate", classifier(comm, optimizer=nn.SGD(0.1 + odd)))
    attempt("dtype", classifier(comm, dtype="float32" if odd else "float64"))
    attempt("rows", x=X[: 100 + odd], y=Y[: 100 + odd])
    attempt("data", x=X[::-1] if odd else X)
    attempt("bad data", x=X[:, :1] if odd else X)
    attempt("bad option", batch_size=0 if odd else 32)
    attempt("search", classifier(comm, optimizer=nn.RandomSearch()), batch_size=None)
    attempt("stream", x=[(X, Y)], y=None, batch_size=None)
    attempt("small", batch_size=1, sharded=True)
    attempt("balanced", class_weight="balanced", sharded=True)
    attempt("callback", callbacks=[nn.CSVLogger("/no/such/folder/log.csv")])
    version = nn.__version__
    nn.__version__ = "0.0.9" if odd else version
    attempt("version")
    nn.__version__ = version
    return said


def apart(comm, folder):
    """A callback that changes the model on one rank."""

    def spoil(model, epoch, logs):
        if comm.Get_rank() == 1 and epoch == 2:
            model.layers[0].weights[0, 0] += 1e-9

    try:
        trained(classifier(comm), comm, callbacks=[spoil])
    except nn.errors.RankError as error:
        return {"said": str(error)}
    return {}


def main(folder, names):
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    for name in names:
        np.savez(Path(folder) / f"{name}.{comm.Get_size()}.{comm.Get_rank()}.npz", **globals()[name](comm, folder))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
