"""Files that are damaged, hostile or foreign, and what reading them may cost and do."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from small_models import classifier, fit

import nnfast as nn
from nnfast import checkpoint
from nnfast.errors import CheckpointError
from nnfast.storage.file_format import CHECKSUM, HEADER_LIMIT, NO_CHECKSUM

RUN = {"epoch": 3, "loss": [0.25 * i for i in range(50)], "order": np.arange(7)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.nnfast"


@pytest.fixture(scope="module")
def trained():
    model = classifier(nn.Adam(nn.schedules.StepDecay(0.02, 5, 0.5)), metrics=["accuracy", nn.metrics.top_k(2)])
    fit(model, epochs=2)
    return model


def content(model):
    parts = [*model.layers, model.loss, model.optimizer, *model.metrics]
    arrays = [model.parameters, *model._buffers.slots.values(), model._buffers.state]
    return [a.tobytes() for a in arrays], list(map(repr, parts)), model._key, model._epochs, model.optimizer.steps


def layout(raw):
    """Header and data of a file."""
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def forged(header, data):
    """A file of this header and data, with a checksum that fits where there is one."""
    if isinstance(header, dict) and CHECKSUM in header.get("__metadata__", {}):
        header["__metadata__"][CHECKSUM] = NO_CHECKSUM
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    raw = len(text).to_bytes(8, "little") + text + data
    return raw.replace(NO_CHECKSUM.encode(), hashlib.sha256(raw).hexdigest().encode(), 1)


# ---- damage ---------------------------------------------------------------------------------------------------------


def mutated(raw, rng):
    """The file with one thing wrong: a bit, a byte, two bytes exchanged, bytes missing or too many, a digit edited."""
    a, b = sorted(rng.integers(0, len(raw), 2))
    header = 8 + int.from_bytes(raw[:8], "little")
    out = bytearray(raw)
    match rng.integers(0, 8):
        case 0:
            out[a] ^= 1 << rng.integers(0, 8)
        case 1:
            out[a % min(header, len(out))] ^= 1 << rng.integers(0, 8)
        case 2:
            out[a] = rng.integers(0, 256)
        case 3:
            out[a], out[b] = out[b], out[a]
        case 4:
            del out[a:]
        case 5:
            del out[a : b + 1]
        case 6:
            out[a:a] = rng.bytes(rng.integers(1, 20))
        case 7:
            digits = [i for i in range(len(out)) if chr(out[i]).isdigit()]
            out[digits[a % len(digits)]] = ord("0") + rng.integers(0, 10)
    return bytes(out)


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


HOSTILE = [
    None,
    True,
    -1,
    2**63,
    2**200,
    1e308,
    "",
    "os.system",
    "Dense",
    [],
    {},
    {"$part": {}},
    {"$array": "0.weights"},
]
HOSTILE += [{"$part": {"kind": "custom", "name": "exec"}}, {"$floats": "run.0"}, {"a": [[[]]]}, ["\x00"], {"rng": 3}]


def places(said, found=None):
    """All (container, key) of nested JSON."""
    found = [] if found is None else found
    for key in said if isinstance(said, dict) else range(len(said)):
        found.append((said, key))
        if isinstance(said[key], dict | list):
            places(said[key], found)
    return found


@pytest.mark.parametrize("where", ["header", "model", "run"])
def test_a_forged_file_raises_nothing_but_checkpoint_errors(trained, path, where, rng):
    checkpoint.save(trained, path, run=RUN)
    raw, refused = path.read_bytes(), 0
    for _ in range(150):
        header, data = layout(raw)
        said = header if where == "header" else json.loads(header["__metadata__"][where])
        holder, key = (spots := places(said))[rng.integers(0, len(spots))]
        value = HOSTILE[rng.integers(0, len(HOSTILE))]
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = value
        if where != "header":
            header["__metadata__"][where] = json.dumps(said)
        path.write_bytes(forged(header, data))
        model = classifier(nn.Adam(), metrics=trained.metrics, rng=8)
        for use in (
            lambda: checkpoint.load(path, backend="numpy"),
            lambda model=model: checkpoint.restore(model, path),
            lambda: checkpoint.read_run(path),
            lambda model=model: model.load_weights(path),
            lambda: checkpoint.inspect(path),
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


def one_array(**changes):
    said = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes
    return {"0.weights": {k: v for k, v in said.items() if v is not None}}


DEEP = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"


@pytest.mark.parametrize(
    ("header", "data", "said"),
    [
        (one_array(), b"\0" * 7, "cut off"),
        (one_array(), b"\0" * 9, "longer than it says"),
        (one_array(data_offsets=[4, 12]), b"\0" * 12, "begins at byte 4, not at 0"),
        (one_array(data_offsets=[8, 0]), b"\0" * 8, "impossible data_offsets"),
        (one_array(data_offsets=[0, 8, 9]), b"\0" * 8, "impossible data_offsets"),
        (one_array(data_offsets=[0.0, 8.0]), b"\0" * 8, "impossible data_offsets"),
        (one_array(shape=[-1, -2]), b"\0" * 8, "impossible shape"),
        (one_array(shape=[True, 2]), b"\0" * 8, "impossible shape"),
        (one_array(shape=[2**62, 4]), b"\0" * 8, "impossible shape"),
        (one_array(shape=[2**32, 2**32], data_offsets=[0, 0]), b"", "which are no"),
        (one_array(shape=[0, 2**47, 2**47, 2**47], data_offsets=[0, 0]), b"", "has shape"),
        (one_array(shape=[1] * 40, data_offsets=[0, 4]), b"\0" * 4, "impossible shape"),
        (one_array(shape="2"), b"\0" * 8, "impossible shape"),
        (one_array(shape=[3]), b"\0" * 8, "which are no"),
        (one_array(dtype="F8"), b"\0" * 8, "has the dtype 'F8'; known are BOOL"),
        (one_array(dtype=["F32"]), b"\0" * 8, "has the dtype"),
        (one_array(dtype=None), b"\0" * 8, "must have dtype, shape and data_offsets"),
        (one_array(extra=1), b"\0" * 8, "must have dtype, shape and data_offsets"),
        ({"0.weights": 3}, b"", "must have dtype"),
        ({"__metadata__": {"a": 1}}, b"", "must hold texts"),
        ({"__metadata__": []}, b"", "must hold texts"),
        (b'{"a":1,"a":2}', b"", "stands twice"),
        (b'{"a":NaN}', b"", "NaN is no JSON"),
        (b'{"a":-Infinity}', b"", "no JSON"),
        (b'{"a":1e999}', b"", "1e999 is no JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", b"", "5000 digits"),
        (b'{"a":"\xff"}', b"", "no UTF-8"),
        (b'{"a":1', b"", "is no JSON"),
        (b"[1]", b"", "does not begin with {"),
        (b'{"a":"\x01"}', b"", "is no JSON"),
        (DEEP, b"", "nested too deeply"),
        (b'{"a":[' + b"[]," * 1_000_000 + b"1]}", b"", "more than 500,000 values"),
        (b'{"a":"' + b"x" * HEADER_LIMIT + b'"}', b"", "announce a header"),
    ],
    ids=range(33),
)
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


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "holds 0 bytes"),
        (b"abc", "holds 3 bytes"),
        (b"\x80\x04\x95hello world", "no file of nnfast"),
        (b"\xff" * 8 + b"{}", "announce a header of 18,446,744,073,709,551,615 bytes"),
        (b"import os; os.system('true')\n" * 9, "no file of nnfast"),
        (b"PK\x03\x04" + b"\0" * 100, "damaged or no .npz"),
    ],
    ids=range(6),
)
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
    trained.save_weights(path.with_suffix(".safetensors"))
    with pytest.raises(CheckpointError, match="no model of nnfast"):
        checkpoint.load(path.with_suffix(".safetensors"))


# ---- npz ------------------------------------------------------------------------------------------------------------


def npy(shape, dtype="<f4", data=b"", fortran=False):
    text = f"{{'descr': {dtype!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def archive(path, entries, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, raw in entries:
            file.writestr(name, raw)


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

HOOK = """
import sys
import nnfast as nn
from nnfast import checkpoint
folder = sys.argv[1]
WATCHED = {"exec", "compile", "import", "pickle.find_class", "marshal.loads", "os.system", "subprocess.Popen",
           "os.exec", "os.posix_spawn", "os.fork", "ctypes.dlopen", "socket.connect", "code.__new__", "os.remove"}
events, watching = [], False
def hook(event, arguments):
    if watching and event in WATCHED:
        events.append((event, str(arguments)[:200]))
def use(name):
    model = checkpoint.load(folder + "/good", backend="numpy")
    for call in (checkpoint.inspect, model.load_weights, checkpoint.read_run,
                 lambda path: checkpoint.restore(model, path), lambda path: checkpoint.load(path, backend="numpy")):
        try:
            call(folder + "/" + name)
        except nn.errors.CheckpointError:
            pass
NAMES = ["good", "weights.npz", "weights.safetensors", "hostile", "pickle.npz"]
for name in NAMES:
    use(name)  # loads what is loaded on first use
sys.addaudithook(hook)
watching = True
for name in NAMES:
    use(name)
watching = False
print(events)
watching = True
exec("import this_is_not_there" if False else "1")
watching = False
assert any(event == "exec" for event, _ in events), "the hook sees nothing"
"""


def test_reading_runs_no_code(tmp_path, trained):
    checkpoint.save(trained, tmp_path / "good", run=RUN)
    trained.save_weights(tmp_path / "weights.npz")
    trained.save_weights(tmp_path / "weights.safetensors")
    header, data = layout((tmp_path / "good").read_bytes())
    said = json.loads(header["__metadata__"]["model"])
    said["layers"][1] = {"class": "os.system", "config": {"command": "true"}, "settings": {}}
    header["__metadata__"]["model"] = json.dumps(said)
    (tmp_path / "hostile").write_bytes(forged(header, data))
    np.savez(tmp_path / "pickle.npz", **{"0.weights": np.array([print], dtype=object)})
    command = [sys.executable, "-c", HOOK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
