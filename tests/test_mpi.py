"""`fit(comm=)` on 2 and 4 ranks of this machine beside one process: the same training, up to rounding."""

from __future__ import annotations

import json
import os
import signal

import mpi_cases
import numpy as np
import pytest
from gpu_models import why_not_simulated
from mpi_jobs import finish, launcher, run_cases, start

import nnfast as nn
from nnfast.storage.records import Record
from nnfast.training.shares import sharded, shared

pytest.importorskip("numba")

SAME = [
    *("plain", "compiled", "two_threads", "weighted", "tiny_batches", "tiny_batches_in_order", "whole_set", "squares"),
    *("accumulated", "validated", "split", "from_disk", "on_a_device", "hooked"),
    *(() if why_not_simulated else ("on_gpus", "on_one_gpu")),
]
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """All cases on 2 and on 4 ranks: job after job, because the machine may have no more cores than that."""
    launcher()
    folder = tmp_path_factory.mktemp("mpi")
    run_cases(2, folder, [*SAME, "refused", "apart"])
    run_cases(4, folder, [*SAME, "in_shards", "interrupted"])
    return folder


def results(folder, name, ranks):
    return [dict(np.load(folder / f"{name}.{ranks}.{rank}.npz")) for rank in range(ranks)]


def assert_same_bits(everyones):
    for other in everyones[1:]:
        assert other.keys() == everyones[0].keys()
        for name, value in everyones[0].items():
            assert value.tobytes() == other[name].tobytes(), name


def assert_close(one, alone):
    assert one.keys() == alone.keys()
    for name, value in alone.items():
        np.testing.assert_allclose(one[name], value, err_msg=name, **CLOSE)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("name", SAME)
def test_several_ranks_train_like_one_process(jobs, tmp_path, name, ranks):
    everyones = results(jobs, name, ranks)
    assert_same_bits(everyones)
    assert_close(everyones[0], getattr(mpi_cases, name)(None, tmp_path))


def test_one_rank_is_one_process(jobs, tmp_path):
    run_cases(1, tmp_path, ["plain", "whole_set"])
    for name in ("plain", "whole_set"):
        assert_close(results(tmp_path, name, 1)[0], getattr(mpi_cases, name)(None, tmp_path))


def test_shards_are_one_data_set(jobs, tmp_path):
    everyones = results(jobs, "in_shards", 4)
    assert_same_bits(everyones)
    assert_close(everyones[0], mpi_cases.in_shards(None, tmp_path))


def test_the_same_job_twice_gives_the_same_bits(jobs, tmp_path):
    run_cases(4, tmp_path, ["compiled"])
    assert_same_bits([*results(jobs, "compiled", 4), *results(tmp_path, "compiled", 4)])


def test_only_rank_0_writes_and_all_ranks_stop(jobs, tmp_path):
    mpi_cases.validated(None, tmp_path)
    alone = (tmp_path / "log0.csv").read_text().splitlines()
    assert len(alone) < 40  # it was stopped early
    for ranks in (2, 4):
        rows = (jobs / f"log{ranks}.csv").read_text().splitlines()
        assert len(rows) == len(alone)  # each row once


# ---- resuming -------------------------------------------------------------------------------------------------------


def test_an_error_of_one_rank_is_one_of_all_and_others_can_go_on(jobs, tmp_path):
    failed = [str(said["failed"]) for said in results(jobs, "interrupted", 4)]
    assert failed[1] == "InterruptedError: "
    assert all(
        words == "RankError: rank 1 of 4 failed, so all ranks stop: InterruptedError: "
        for words in failed[:1] + failed[2:]
    )
    assert all(said["steps"] == 22 for said in results(jobs, "interrupted", 4))
    alone = mpi_cases.compiled(None, tmp_path)
    run_cases(2, jobs, ["resumed"])
    assert_same_bits(results(jobs, "resumed", 2))
    assert_close(results(jobs, "resumed", 2)[0], alone)
    assert_close(mpi_cases.resumed(None, jobs), alone)


def test_shards_of_others_take_over_only_between_epochs():
    from nnfast.training.ranks_run import RanksRun

    def run(held):
        made = object.__new__(RanksRun)
        made._shares, made._held = sharded(0, np.array(held), 8), np.array(held)
        made._accumulate, made._shuffled, made.per_epoch = 1, True, 5
        return made

    def look_at(steps):
        record = Record({"signature": run([20, 20]).signature(), "steps": steps}, "run.nnfast")
        record.part("signature").check_alike(run([10, 30]).expected(record))

    look_at(10)
    with pytest.raises(nn.CheckpointError, match=r"shards = \[20, 20\]; here it is \[10, 30\]"):
        look_at(11)


# ---- refusing -------------------------------------------------------------------------------------------------------

WORDS = {
    "batch_size": "OptionError: the ranks must agree on batch_size: it is 32 on rank 0 and 16 on rank 1",
    "epochs": "OptionError: the ranks must agree on epochs: it is 3 on rank 0 and 2 on rank 1",
    "layers": "OptionError: the ranks must agree on the layers",
    "optimizer": "OptionError: the ranks must agree on the optimizer",
    "rate": "OptionError: the ranks must agree on the learning rate",
    "dtype": "OptionError: the ranks must agree on the dtype",
    "rows": "OptionError: the ranks must agree on rows: it is 100 on rank 0 and 101 on rank 1",
    "data": "OptionError: the ranks must agree on the checksum of X, y and sample_weight",
    "bad data": ("RankError: rank 1 of 2 failed, so all ranks stop: ShapeError: X has", "ShapeError: X has"),
    "bad option": (
        "RankError: rank 1 of 2 failed, so all ranks stop: OptionError: batch_size",
        "OptionError: batch_size",
    ),
    "search": "OptionError: RandomSearch has no gradients",
    "stream": "OptionError: with comm= X, y and validation_data are arrays",
    "small": "OptionError: batch_size is 1; with sharded=True",
    "balanced": "OptionError: class_weight='balanced'",
    "callback": ("OptionError: path is", "RankError: rank 0 of 2 failed, so all ranks stop: OptionError: path is"),
    "version": "OptionError: the ranks must agree on the version of nnfast",
}


@pytest.mark.parametrize("name", WORDS)
def test_ranks_that_disagree_are_refused_on_all(jobs, name):
    expected = [WORDS[name]] * 2 if isinstance(WORDS[name], str) else WORDS[name]
    for rank, words in enumerate(expected):
        said = results(jobs, "refused", 2)[rank]
        assert str(said[name]).startswith(words), said


def test_ranks_that_came_apart_are_found_out(jobs):
    for said in results(jobs, "apart", 2):
        assert "the ranks have different parameters" in str(said["said"])


def test_what_is_no_communicator():
    with pytest.raises(nn.errors.DTypeError, match="expected a communicator of mpi4py"):
        mpi_cases.trained(mpi_cases.classifier(None), "world")
    with pytest.raises(nn.errors.OptionError, match="needs comm="):
        mpi_cases.trained(mpi_cases.classifier(None), None, sharded=True)


# ---- dying ----------------------------------------------------------------------------------------------------------

DYING = """
import json, os, sys
import nnfast as nn
from mpi4py import MPI
from mpi_cases import X, Y, classifier
comm, how, path = MPI.COMM_WORLD, sys.argv[1], sys.argv[2]
pids = comm.allgather(os.getpid())

def hook(flat):
    if how == "raises" and comm.Get_rank() == 2 and model.optimizer.steps > 100:
        raise ZeroDivisionError("one rank divides by 0")

def tell(model, epoch, logs):
    if how != "raises" and epoch == 50 and comm.Get_rank() == 0:
        print(json.dumps(pids), flush=True)

model = classifier(comm, "numba")
watch = [nn.ModelCheckpoint(path, every=10), tell]
if how == "early" and comm.Get_rank() == 2:
    raise ValueError("before fit")
epochs = 10**7 if how != "again" else 60
model.fit(X, Y, epochs=epochs, batch_size=32, verbose=0, comm=comm, on_gradients=hook, callbacks=watch, resume=path)
"""


def dying(tmp_path, how, *launch):
    program = tmp_path / "dying.py"
    program.write_text(DYING)
    return start(4, *launch, program, how, tmp_path / "run.nnfast")


def test_a_killed_rank_ends_the_job_which_can_be_resumed(tmp_path):
    job = dying(tmp_path, "killed")
    pids = json.loads(job.stdout.readline())
    os.kill(pids[3], signal.SIGKILL)
    code, out, err = finish(job, 60)
    assert code
    assert "KILLED BY SIGNAL: 9" in out + err or "signal 9" in out + err
    code, out, err = finish(dying(tmp_path, "again"))
    assert code == 0, out + err
    assert nn.load(tmp_path / "run.nnfast", backend="numpy")._epochs >= 60


def test_a_hook_that_raises_on_one_rank_ends_the_job(tmp_path):
    code, _, err = finish(dying(tmp_path, "raises"), 60)
    assert code
    assert "ZeroDivisionError: one rank divides by 0" in err
    assert "nnfast: rank 2 of 4 failed in the midst of a training" in err


def test_a_rank_that_never_comes_ends_the_job(tmp_path):
    """What fails before `fit` is not nnfast's to hear of: `python -m mpi4py` ends the job."""
    code, _, err = finish(dying(tmp_path, "early", "-m", "mpi4py"), 60)
    assert code
    assert "ValueError: before fit" in err


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_is_heard_by_all_ranks(tmp_path):
    job = dying(tmp_path, "killed")
    pids = json.loads(job.stdout.readline())
    os.kill(pids[1], signal.SIGINT)
    code, _, err = finish(job, 60)
    assert code
    assert err.count("KeyboardInterrupt") >= 4


# ---- who has which rows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "size", "ranks"), [(100, 32, 4), (10, 3, 4), (7, None, 3), (5, 100, 8), (64, 1, 2)])
def test_shared_rows_are_taken_once_and_in_order(rows, size, ranks):
    everyones = [shared(rank, ranks, rows, size) for rank in range(ranks)]
    batches = np.arange(everyones[0].batches)
    parts = [shares.parts(batches) for shares in everyones]
    for batch in batches:
        taken = [np.arange(p.start[batch], p.start[batch] + p.own[batch]) for p in parts]
        low = batch * everyones[0].size
        np.testing.assert_array_equal(np.concatenate(taken), np.arange(low, min(low + everyones[0].size, rows)))
        assert [int(p.before[batch]) for p in parts] == [0, *np.cumsum([len(t) for t in taken])[:-1]]
        assert max(map(len, taken)) <= everyones[0].most
    np.testing.assert_array_equal(everyones[0].batch_rows, np.diff(np.append(batches * everyones[0].size, rows)))


@pytest.mark.parametrize("held", [[30, 30, 30], [17, 60, 1, 42], [1, 1, 1000], [5]])
@pytest.mark.parametrize("size", [None, 4, 31, 500])
def test_shards_give_each_row_once_and_in_proportion(held, size):
    held = np.array(held)
    everyones = [sharded(rank, held, size) for rank in range(len(held))]
    parts = [shares.parts(np.arange(shares.batches)) for shares in everyones]
    for own, part in zip(held, parts, strict=True):
        np.testing.assert_array_equal(part.start, np.append(0, np.cumsum(part.own)[:-1]))
        assert part.own.sum() == own
        assert (np.abs(part.own - own * part.total / held.sum()) < 2).all()
        assert part.own.max() <= everyones[0].most
        if len(set(held)) == 1:
            assert (part.total[:-1] == everyones[0].size).all()
    assert (parts[0].total > 0).all()
    np.testing.assert_array_equal(parts[-1].total, parts[-1].before + parts[-1].own)
