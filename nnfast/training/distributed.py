"""`Model.fit` on several ranks: before the first step they compare what they were given, and start from one state."""

from __future__ import annotations

import json
import os
import re
import socket
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

import nnfast
from nnfast.callbacks.base import CallbackList
from nnfast.errors import DTypeError, OptionError
from nnfast.threads import cpu_count, get_num_threads, limit_unasked
from nnfast.training import fit
from nnfast.training.batches import Data, prepare, prepare_evaluation, tally_of
from nnfast.training.ranks import Ranks
from nnfast.training.ranks_run import RanksRun
from nnfast.training.resuming import Resumption, Session, resumed
from nnfast.training.shares import sharded, shared
from nnfast.training.streams import is_stream
from nnfast.training.validating import Validation, batch_sums
from nnfast.validation import file_name, flag, integer, number

if TYPE_CHECKING:
    from nnfast.model import Model

__all__ = ["prepare_ranks", "resumed_on_all_ranks"]

SAMPLED = 1024  # rows of data that are compared between the ranks

Facts = dict[str, Any]


def prepare_ranks(
    ranks: Ranks, model: Model, X: Any, y: Any, given: fit.Settings, epochs: int, hooks: CallbackList
) -> tuple[RanksRun, Validation | None]:
    """The run, and what measures the validation data: checked and compared, with the model of rank 0 on all ranks."""
    with ranks.together():
        facts = _facts_of_model(model) | _facts_of_call(model, X, y, given, epochs)
    everyones = _compared(ranks, facts, {"here": [socket.gethostname(), *_cpus()], "key": model._key})
    _share_cpus(ranks, [facts["here"] for facts in everyones])
    before, model._key = model._key, everyones[0]["key"]  # with which the rows of a validation_split are drawn
    try:
        with ranks.together():
            data, aside = _data(model, X, y, given)
            is_sharded, batch_size = facts["sharded"], facts["batch_size"]
            own = {"rows": data.rows, "weighted": data.weight is not None, "threads": get_num_threads()}
            checked = {} if is_sharded else {"rows": data.rows, "the checksum of X, y and sample_weight": _digest(data)}
        alike = _compared(ranks, checked, own)
        held = np.array([facts["rows"] for facts in alike])
        with ranks.together():
            shares = (
                sharded(ranks.rank, held, batch_size)
                if is_sharded
                else shared(ranks.rank, ranks.size, data.rows, batch_size)
            )
    except BaseException:
        model._key = before
        raise
    run = RanksRun(
        model,
        data,
        facts["shuffle"],
        hooks.on_gradients,
        facts["accumulate"],
        ranks=ranks,
        shares=shares,
        held=held if is_sharded else None,
        weighted=any(facts["weighted"] for facts in alike),
        threads=max(facts["threads"] for facts in alike),
    )
    _take_over(ranks, model)
    if aside is None:
        return run, None
    return run, Validation(model, facts["validation_every"], None, _measuring(ranks, model, aside, sharded=is_sharded))


def _data(model: Model, X: Any, y: Any, given: fit.Settings) -> tuple[Data, Data | None]:
    """What this rank has to train on, and to validate with."""
    rest = aside = None
    if given.validation_split:
        rest, held = fit.split_rows(model, X, given.validation_split)
        aside = prepare_evaluation(model, X, y, given.sample_weight, None, index=held)
    elif given.validation_data is not None:
        X_aside, y_aside, w = (*given.validation_data, None)[:3]
        aside = prepare_evaluation(model, X_aside, y_aside, w, None, "validation ")
    return prepare(model, X, y, given.sample_weight, None, class_weight=given.class_weight, index=rest), aside


# ---- comparing ------------------------------------------------------------------------------------------------------


def _facts_of_model(model: Model) -> Facts:
    """What must be the same on all ranks for their gradients to be of one model."""
    optimizer = model.optimizer
    assert optimizer is not None
    if not optimizer.uses_gradients:
        raise OptionError(f"{type(optimizer).__name__} has no gradients to add up; comm= needs an optimizer with some")
    model._programs.runner("train")  # makes the arrays of the optimizer
    rate = getattr(optimizer, "learning_rate", None)
    layers = [f"{layer!r}{'' if layer.trainable else ', frozen'}" for layer in model.layers]
    return {
        "the version of nnfast": nnfast.__version__,
        "the layers": [_words(layer) for layer in layers],
        "the shapes": [list(block.shape) for block in model._layout.blocks],
        "the loss": _words(repr(model.loss)),
        "the optimizer": [type(optimizer).__name__, *model._buffers.slots],
        "the optimizer's settings": {name: optimizer.scalar(name) for name in ("clip_norm", *optimizer.scalars)},
        "the learning rate": _words(getattr(rate, "__qualname__", None) or repr(rate)),
        "the decay": float(getattr(optimizer, "decay", 0)),
        "the metrics": [m.name for m in model.metrics],
        "the backend": model.backend.name,
        "the dtype": model.dtype.name,
    }


def _facts_of_call(model: Model, X: Any, y: Any, given: fit.Settings, epochs: int) -> Facts:
    """The arguments that must be the same, checked."""
    stream = is_stream(X, y) or (
        given.validation_data is not None and not isinstance(given.validation_data, tuple | list)
    )
    if stream or given.steps_per_epoch is not None:
        raise OptionError("with comm= X, y and validation_data are arrays: batches that come one by one have no shares")
    if given.validation_data is not None and len(given.validation_data) not in (2, 3):
        raise DTypeError("validation_data must be (X, y) or (X, y, sample_weight)")
    if given.validation_data is not None and given.validation_split:
        raise OptionError("give either validation_data or validation_split, not both")
    is_sharded = flag("sharded", given.sharded)
    if is_sharded and isinstance(given.class_weight, str):
        raise OptionError("class_weight='balanced' counts all labels, and a shard has some: give {class: weight}")
    return {
        "epochs": epochs,
        "batch_size": None if given.batch_size is None else integer("batch_size", given.batch_size, 1),
        "shuffle": flag("shuffle", given.shuffle),
        "accumulate": integer("accumulate", given.accumulate, 1),
        "sharded": is_sharded,
        "class_weight": repr(given.class_weight),
        "validation_data": given.validation_data is not None,
        "validation_split": number("validation_split", given.validation_split, 0, 1, high_open=True),
        "validation_every": integer("validation_every", given.validation_every, 1),
        "resume": given.resume is not None,
    }


def _compared(ranks: Ranks, facts: Facts, own: Facts) -> list[Facts]:
    """What each rank has told, `facts` the same on all; OptionError, on all, names the first that is not."""
    everyones = [json.loads(text) for text in ranks.texts(json.dumps({"facts": facts, "own": own}))]
    first = everyones[0]["facts"]
    for rank, other in enumerate(everyones):
        for name in first | other["facts"]:
            here, there = (said.get(name, "unknown") for said in (first, other["facts"]))
            if here != there:
                a, b = (f"{json.dumps(value):.200}" for value in (here, there))
                hint = (
                    " (each rank has its own rows? sharded=True)"
                    if name in ("rows", "the checksum of X, y and sample_weight")
                    else ""
                )
                ranks.refuse(
                    OptionError(f"the ranks must agree on {name}: it is {a} on rank 0 and {b} on rank {rank}{hint}")
                )
    return [said["own"] for said in everyones]


def _words(text: str) -> str:
    """The text without addresses, which differ from process to process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _digest(data: Data) -> int:
    """A number that tells data apart by their shapes and some of their rows."""
    rows = np.unique(np.linspace(0, data.rows - 1, min(SAMPLED, data.rows)).astype(np.int64))
    total = 0
    if data.staged is not None:
        arrays: list[Any] = [*data.staged.take(rows)]
    else:
        arrays = [a[rows] for a in (data.x, data.y) if isinstance(a, np.ndarray)]  # what lies on a device stays there
    if data.weight is not None:
        arrays.append(data.weight[rows])
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).tobytes(), zlib.crc32(str(array.shape).encode(), total))
    return total


# ---- processors -----------------------------------------------------------------------------------------------------


def _cpus() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(cpu_count()))


def _share_cpus(ranks: Ranks, places: list[list[Any]]) -> None:
    """Ranks of one machine share its CPUs, unless somebody has said how many threads each may use."""
    host, *own = places[ranks.rank]
    beside = sum(other[0] == host and not set(own).isdisjoint(other[1:]) for other in places)
    limit_unasked(max(1, len(own) // max(beside, 1)))


# ---- validation -----------------------------------------------------------------------------------------------------


def _measuring(ranks: Ranks, model: Model, data: Data, *, sharded: bool) -> Callable[[], dict[str, float]]:
    """A function that measures the model on validation data; the same values on every rank.

    Whole batches go to one rank each, as in one process: of data that all ranks hold, each measures a part of the
    batches, and of shards its own.
    """
    weights, rows = data.batch_weights(None), data.batch_rows
    if sharded:
        counts = ranks.gathered(len(rows)).astype(int)
        offset, every = int(counts[: ranks.rank].sum()), int(counts.sum())
        low, high = 0, len(rows)
        weights, rows = (_placed(ranks, part, offset, every) for part in (weights, rows))
    else:
        low, high = (len(rows) * r // ranks.size for r in (ranks.rank, ranks.rank + 1))
        offset, every = low, len(rows)

    def measure() -> dict[str, float]:
        program, _ = model._programs.runner("evaluate")
        sums = _placed(ranks, batch_sums(model, data, low, high), offset, every)
        return tally_of(model, program, rows).one_epoch(sums, weights)

    return measure


def _placed(ranks: Ranks, own: np.ndarray[Any, Any], offset: int, every: int) -> np.ndarray[Any, Any]:
    """The rows of all ranks in their places among `every`."""
    whole = np.zeros((every, *own.shape[1:]))
    whole[offset : offset + len(own)] = own
    ranks.add_up(whole)
    return whole


# ---- one state ------------------------------------------------------------------------------------------------------


def _take_over(ranks: Ranks, model: Model) -> None:
    """Make the model that of rank 0: parameters, the optimizer's arrays and steps, counters and the key."""
    buffers, backend = model._buffers, model.backend
    for flat in (buffers.parameters, *(buffers.slots[name] for name in sorted(buffers.slots))):
        host = flat if isinstance(flat, np.ndarray) else np.ascontiguousarray(backend.to_numpy(flat))
        ranks.spread(host)
        if host is not flat:
            flat[...] = backend.asarray(host)
    assert model.optimizer is not None
    counters = np.array([model.optimizer.steps, model._epochs], np.int64)
    ranks.spread(counters)
    model.optimizer.steps, model._epochs = map(int, counters)
    model._take_key(model._key)  # of rank 0 since `prepare_ranks`


def resumed_on_all_ranks(ranks: Ranks, session: Session, path: Any) -> Resumption | None:
    """Put the model of every rank where the checkpoint of rank 0 left it; None to begin anew."""
    if path is None:
        return None
    found = None
    try:
        with _file_on_all_ranks(ranks, path) as copy, ranks.together():
            found = resumed(session, copy)
    except BaseException:
        if found is not None:  # another rank has refused it
            found.before.back()
        raise
    return found


@contextmanager
def _file_on_all_ranks(ranks: Ranks, path: Any) -> Iterator[Any]:
    """The file of rank 0 as a file that every rank can read, whatever disks they see; where there is none, `path`."""
    with ranks.together():
        path = file_name("resume", path)
        content = None
        if ranks.rank == 0 and os.path.exists(path):
            with open(path, "rb") as file:
                content = np.frombuffer(file.read(), np.uint8).copy()
    size = np.array([-1 if content is None else len(content)], np.int64)
    ranks.spread(size)
    if size[0] < 0:
        yield path if ranks.rank == 0 else None
        return
    if content is None:
        content = np.empty(int(size[0]), np.uint8)
    ranks.spread(content)
    if ranks.rank == 0:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="nnfast-") as folder:
        copy = os.path.join(folder, os.path.basename(path))
        with open(copy, "wb") as file:
            file.write(content.tobytes())
        yield copy
