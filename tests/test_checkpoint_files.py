"""Files that are damaged, hostile or foreign, and what reading them may cost and do."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest
from batteries.child import answer_of
from damaged_files import (
    DEEP,
    FOREIGN,
    HEADERS,
    RUN,
    archive,
    content,
    edited,
    forged,
    go_on,
    layout,
    mutated,
    npy,
    one_array,
    trained_model,
    untrained_model,
    write_training,
)
from small_models import classifier

import nnfast as nn
from nnfast import checkpoint
from nnfast.errors import CheckpointError
from nnfast.storage.file_format import CHECKSUM


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.nnfast"


@pytest.fixture(scope="module")
def trained():
    return trained_model()


# ---- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_file_is_refused_or_holds_the_same(trained, path, seed):
    rng = np.random.default_rng(seed)
    checkpoint.save(trained, path, run=RUN)
    raw, before = path.read_bytes(), content(trained)
    refused = 0
    for _ in range(100):
        bad = mutated(raw, rng)
        path.write_bytes(bad)
        try:
            assert content(checkpoint.load(path, backend="numpy")) == before
            assert repr(checkpoint.read_run(path)) == repr(RUN)
        except CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
        else:
            assert bad == raw, "a change went unseen"
    assert refused > 90


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_damaged_weights_are_refused_or_the_same(trained, tmp_path, ending, rng):
    path = tmp_path / f"w{ending}"
    trained.save_weights(path)
    raw, before = path.read_bytes(), trained.parameters.tobytes()
    outcomes = []
    for _ in range(150):
        path.write_bytes(mutated(raw, rng))
        model = classifier(rng=5)
        untouched = model.parameters.tobytes()
        try:
            model.load_weights(path)
            assert model.parameters.tobytes() == before
        except CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017
            assert model.parameters.tobytes() == untouched
        outcomes.append(model.parameters.tobytes() == untouched)
    assert sum(outcomes) > 100


@pytest.mark.parametrize("where", ["header", "model", "run"])
def test_a_forged_file_raises_nothing_but_checkpoint_errors(path, where, rng):
    write_training(path)
    go_on(untrained_model(), path)
    raw, refused = path.read_bytes(), 0
    for _ in range(150):
        path.write_bytes(edited(raw, where, rng))
        model = untrained_model()
        for use in (
            lambda: checkpoint.load(path, backend="numpy"),
            lambda model=model: checkpoint.restore(model, path),
            lambda: checkpoint.read_run(path),
            lambda model=model: model.load_weights(path),
            lambda: checkpoint.inspect(path),
            lambda model=model: go_on(model, path),
        ):
            untouched = content(model)
            try:
                use()
            except CheckpointError as error:
                assert str(path) in str(error)  # noqa: PT017
                assert content(model) == untouched
                refused += 1
    assert refused > 150


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"class": "os.system", "config": {}, "settings": {}}, "this nnfast has no layer 'os.system'"),
        ({"class": "Layer", "config": {}, "settings": {}}, "this nnfast has no layer 'Layer'"),
        ({"class": "ReLU", "config": {"backend": "numba"}, "settings": {}}, "must not choose its backend"),
        ({"class": "ReLU", "config": {"alpha": 1}, "settings": {}}, "layer 1 cannot be built"),
        ({"class": "Dropout", "config": {"rate": 2}, "settings": {}}, "rate is 2; expected"),
        ({"class": "ReLU", "config": {}, "settings": {"_trainable": 0}}, "'ReLU' has no setting '_trainable'"),
        ({"class": "Dense", "config": {"n_inputs": 16, "n_outputs": 16}, "settings": {}}, "no array 1.biases"),
        ({"class": "ReLU"}, "layer 1 cannot be built"),
    ],
    ids=range(8),
)
def test_hostile_parts(trained, path, part, said):
    trained.save(path)
    header, data = layout(path.read_bytes())
    model = json.loads(header["__metadata__"]["model"])
    model["layers"][1] = part | {"trainable": True, "forwards": 0}
    header["__metadata__"]["model"] = json.dumps(model)
    path.write_bytes(forged(header, data))
    with pytest.raises(CheckpointError, match=said):
        checkpoint.load(path, backend="numpy")


def test_a_small_file_cannot_ask_for_a_large_answer(trained, path):
    checkpoint.save(trained, path, run=RUN)
    header, data = layout(path.read_bytes())
    for said in ('[{"$floats":"run.0"},{"$floats":"run.0"}]', '{"$array":"0.weights"}', '{"$array":"run.0","b":1}'):
        header["__metadata__"]["run"] = said
        path.write_bytes(forged(header, data))
        with pytest.raises(CheckpointError, match=r"is missing, or is used twice|stands for nothing"):
            checkpoint.read_run(path)


@pytest.mark.parametrize(("header", "data", "said"), HEADERS, ids=range(len(HEADERS)))
def test_hostile_headers(header, data, said, path):
    path.write_bytes(forged(header, data))
    model = classifier()
    before = model.parameters.tobytes()
    with pytest.raises(CheckpointError, match=said):
        model.load_weights(path)
    assert model.parameters.tobytes() == before
    with pytest.raises(CheckpointError):
        checkpoint.load(path)
    if said != "has shape":  # that one could be of some model
        with pytest.raises(CheckpointError, match=said):
            checkpoint.inspect(path)


@pytest.mark.parametrize(("raw", "said"), FOREIGN, ids=range(len(FOREIGN)))
def test_foreign_files(raw, said, path):
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=said) as caught:
        classifier().load_weights(path)
    assert str(path) in str(caught.value)
    with pytest.raises(CheckpointError):
        checkpoint.load(path)


def test_later_formats_and_plain_weights_are_no_models(trained, path):
    trained.save(path)
    header, data = layout(path.read_bytes())
    for version, said in (
        ("2", "version 2 of the format; this nnfast reads version 1: update"),
        ("x", "its version is"),
    ):
        header["__metadata__"]["version"] = version
        path.write_bytes(forged(header, data))
        with pytest.raises(CheckpointError, match=said):
            checkpoint.load(path)
    header["__metadata__"]["version"] = "1"
    header["run.9"] = {"dtype": "F32", "shape": [0, 2**47, 2**47, 2**47], "data_offsets": [0, 0]}
    path.write_bytes(forged(header, data))
    with pytest.raises(CheckpointError, match=r"no room for the array 'run\.9'"):
        checkpoint.load(path)
    del header["run.9"]
    del header["__metadata__"][CHECKSUM]
    path.write_bytes(forged(header, data))
    with pytest.raises(CheckpointError, match="its checksum is missing"):
        checkpoint.load(path)
    header["__metadata__"][CHECKSUM] = "\ud800"
    path.write_bytes(len(text := json.dumps(header).encode()).to_bytes(8, "little") + text + data)
    for use in (checkpoint.load, trained.load_weights):
        with pytest.raises(CheckpointError, match="its checksum is none"):
            use(path)
    trained.save_weights(path.with_suffix(".safetensors"))
    with pytest.raises(CheckpointError, match="no model of nnfast"):
        checkpoint.load(path.with_suffix(".safetensors"))


# ---- npz ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_npz(tmp_path):
    path, model = tmp_path / "w.npz", classifier()
    objects = io.BytesIO()
    np.save(objects, np.array([print, {}]), allow_pickle=True)
    good = npy((2, 16), data=b"\0" * 128)
    for entries, said in (
        ([], "has no array '0.weights'; it holds nothing"),
        ([("0.weights.npy", objects.getvalue())], "does not hold plain numbers"),
        ([("0.weights.npy", npy((2, 16), "<U4"))], "does not hold plain numbers"),
        ([("0.weights.npy", npy((2, 16), data=b"\0" * 127))], "127 bytes, which are no"),
        ([("0.weights.npy", npy((1 << 33, 1 << 33)))], "which are no"),
        ([("0.weights.npy", b"\x93NUMPY\x09\x00\x10\x00")], r"no \.npy array"),
        ([("0.weights.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f")], r"no \.npy array"),
        ([("0.weights.npy", b"")], r"no \.npy array"),
        ([("0.weights.npy", good), ("0.weights.npy", good)], "twice"),
        ([("readme.txt", b"x")], "no array"),
        ([("../../0.weights.npy", good)], "no array '0.weights'"),
    ):
        archive(path, entries)
        with pytest.raises(CheckpointError, match=said):
            model.load_weights(path)
    archive(path, [("0.weights.npy", good)], compression=zipfile.ZIP_BZIP2)
    with pytest.raises(CheckpointError, match="unusual"):
        model.load_weights(path)


# ---- memory ---------------------------------------------------------------------------------------------------------


def peak(use, said="."):
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=said):
            use()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_no_more_memory_than_the_file_justifies(tmp_path, trained):
    path, model = tmp_path / "x", classifier()
    lies = [
        (1 << 60).to_bytes(8, "little") + b"{}",
        forged(one_array(shape=[1 << 40], data_offsets=[0, 1 << 42]), b""),
        forged(DEEP, b""),
        forged(b'{"a":[' + b"[]," * 2_000_000 + b"1]}", b""),
    ]
    for raw in lies:
        path.write_bytes(raw)
        assert peak(lambda: model.load_weights(path)) < 6 * len(raw) + (2 << 20)
    bomb = npy((1 << 12, 1 << 12), data=b"\0" * (1 << 26))  # 64 MiB of nothing in 65 kB
    archive(path, [("0.weights.npy", bomb)], compression=zipfile.ZIP_DEFLATED)
    del bomb
    assert path.stat().st_size < 1 << 20
    assert peak(lambda: model.load_weights(path)) < 8 << 20
    archive(path, [(f"{'n' * 60}{i}.npy", b"") for i in range(12_000)])  # a directory of 1.3 MB
    assert peak(lambda: model.load_weights(path), "directory is larger than") < 8 << 20
    trained.save(path)  # a model of a few bytes that asks for a huge one
    header, data = layout(path.read_bytes())
    said = json.loads(header["__metadata__"]["model"])
    for i, name in ((0, "n_outputs"), (3, "n_inputs")):
        said["layers"][i]["config"][name] = 1 << 40
    header["__metadata__"]["model"] = json.dumps(said)
    path.write_bytes(forged(header, data))
    assert peak(lambda: checkpoint.load(path, backend="numpy")) < 4 << 20


def test_loading_costs_little_more_than_the_model(tmp_path):
    model = nn.Model([nn.Dense(1000, 1000)], nn.MeanSquaredError(), nn.Adam(), backend="numpy")
    model.save(tmp_path / "x")
    size = (tmp_path / "x").stat().st_size  # 4 MB; loaded, it has gradients beside its parameters
    tracemalloc.start()
    checkpoint.load(tmp_path / "x", backend="numpy")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 6 * size


# ---- what reading does ----------------------------------------------------------------------------------------------


def test_reading_runs_no_code(tmp_path):
    found = answer_of("batteries.reading", tmp_path, 0, 60)
    assert all(found["careless"].values()), found["careless"]
    for sort, tried in found["sorts"].items():
        assert tried["tried"] > 0, sort
        assert tried["failures"] == []
