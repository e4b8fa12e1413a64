"""Many trainings at once: in joblib's processes and threads, and on a Dask cluster of this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_models import X, Y, classifier
from sweeps import RATES, fitted, train

import nnfast as nn

joblib = pytest.importorskip("joblib")


def swept(**options):
    return joblib.Parallel(**options)(joblib.delayed(train)(rate) for rate in RATES)


@pytest.fixture(scope="module")
def alone():
    """One after the other, with one thread: what every worker has below."""
    pytest.importorskip("numba")
    before = nn.get_num_threads()
    nn.set_num_threads(1)
    yield [train(rate) for rate in RATES]
    nn.set_num_threads(before)


def assert_same(found, alone):
    for (loss, weights, _), (loss_alone, weights_alone, _) in zip(found, alone, strict=True):
        assert loss == loss_alone
        np.testing.assert_array_equal(weights, weights_alone)


def test_processes_of_joblib_have_their_share_of_threads(alone, monkeypatch):
    monkeypatch.delenv("NNFAST_NUM_THREADS", raising=False)
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        found = swept()
    assert [threads for _, _, threads in found] == [1] * len(RATES)
    assert_same(found, alone)


@pytest.mark.parametrize("said", [2, 3])
def test_what_joblib_says_is_heard(monkeypatch, said):
    """It sets OMP_NUM_THREADS in the processes that it starts; more than there are CPUs it does not give."""
    monkeypatch.delenv("NNFAST_NUM_THREADS", raising=False)
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=said):
        (found,) = joblib.Parallel()([joblib.delayed(nn.get_num_threads)()])
    assert found == min(said, nn.threads.cpu_count())


def test_threads_of_joblib_train_beside_each_other(alone):
    assert_same(swept(n_jobs=4, backend="threading"), alone)


def test_models_travel_to_other_processes_and_back(alone):
    models = [classifier(nn.Adam(rate), backend="numba") for rate in RATES]
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        found = joblib.Parallel()(joblib.delayed(fitted)(model) for model in models)
    for model, (_, weights, _) in zip(found, alone, strict=True):
        np.testing.assert_array_equal(model.parameters, weights)
        model.fit(X, Y, epochs=1, verbose=0)


def test_a_cluster_of_dask(alone, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'nnfast[dask]'")
    monkeypatch.delenv("NNFAST_NUM_THREADS", raising=False)
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster, timeout=30),
        joblib.parallel_config("dask"),
    ):
        found = swept()
    assert [threads for _, _, threads in found] == [1] * len(RATES)
    assert_same(found, alone)


@pytest.mark.filterwarnings("default")  # Ray leaves files and sockets to the end of the process
def test_a_cluster_of_ray(alone, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    ray_joblib = pytest.importorskip("ray.util.joblib", exc_type=ImportError)
    monkeypatch.delenv("NNFAST_NUM_THREADS", raising=False)
    here = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=here)
    try:
        ray_joblib.register_ray()
        with joblib.parallel_config("ray", n_jobs=2):
            found = swept()
    finally:
        ray.shutdown()
    assert [threads for _, _, threads in found] == [1] * len(RATES)
    assert_same(found, alone)
