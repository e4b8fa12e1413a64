"""Models as C99: the text, and what a compiler makes of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from exchange_models import LAYERS, Cube, X, network

import nnfast as nn
from nnfast.errors import CheckpointError, DataError, DTypeError, OptionError
from nnfast.exchange.c_source import source

COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2"]
compiles = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler here: cc, gcc or clang")

CPP = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
compiles_cpp = pytest.mark.skipif(CPP is None, reason="there is no C++ compiler here: c++, g++ or clang++")
LANGUAGES = [pytest.param((COMPILER, *FLAGS), marks=compiles, id="c99")]
for version in ("c++11", "c++14", "c++17"):
    LANGUAGES.append(pytest.param((CPP, "-x", "c++", f"-std={version}", *FLAGS[1:]), marks=compiles_cpp, id=version))

# Rows come in as text and go out as text, exact in both directions.
MAIN = """
#include <stdio.h>
#include "net.h"

int main(void)
{{
    {real} input[{upper}_INPUTS], output[{upper}_OUTPUTS];
    double number;
    int i = 0;

    while (scanf("%lf", &number) == 1) {{
        input[i++] = ({real})number;
        if (i == {upper}_INPUTS) {{
            {prefix}_predict(input, output);
            for (i = 0; i < {upper}_OUTPUTS; ++i) printf("%.17g ", (double)output[i]);
            i = 0;
        }}
    }}
    printf("%d", {upper}_STACK_BYTES);
    return 0;
}}
"""


def run(model, folder, X, prefix="net", flags=(), compiler=(COMPILER, *FLAGS), **options):
    """What the compiled header gives for these rows, and the bytes of stack that it says it takes."""
    dtype = np.dtype(options.get("dtype") or model.dtype)
    model.to_c(folder / "net.h", prefix=prefix, **options)
    real = "float" if dtype == np.float32 else "double"
    (folder / "main.c").write_text(MAIN.format(real=real, upper=prefix.upper(), prefix=prefix))
    program = str(folder / "main")
    done = subprocess.run(
        [*compiler, *flags, str(folder / "main.c"), "-o", program, "-lm"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = "\n".join(" ".join(repr(float(v)) for v in row) for row in np.asarray(X, dtype))
    said = subprocess.run([program], input=rows, capture_output=True, text=True, check=True).stdout.split()
    return np.array([float(v) for v in said[:-1]]).reshape(len(X), model.n_outputs), int(said[-1])


def assert_close(got, want, dtype):
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@compiles
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("fold", [True, False], ids=["folded", "apart"])
def test_every_layer(name, fold, dtype, tmp_path):
    model = network(LAYERS[name](), dtype=dtype.name)
    got, _ = run(model, tmp_path, X, fold=fold)
    assert_close(got, model.predict(X), dtype.name)


@compiles_cpp
@pytest.mark.parametrize("name", LAYERS)
def test_the_header_is_cpp_too(name, tmp_path):
    model = network(LAYERS[name](), dtype="float32")
    got, _ = run(model, tmp_path, X, compiler=(CPP, "-x", "c++", "-std=c++11", *FLAGS[1:]))
    assert_close(got, model.predict(X), "float32")


# Prints the bytes of the constants.
BYTES = """
#include <stdio.h>
#include "net.h"

int main(void)
{
    const unsigned char *at = (const unsigned char *)net_weights0;
    unsigned i;

    for (i = 0; i < sizeof net_weights0; ++i) printf("%02x", at[i]);
    return 0;
}
"""


@pytest.mark.parametrize("compiler", LANGUAGES)
def test_constants_are_read_back_to_the_bit(compiler, dtype, tmp_path):
    """The least and the largest, subnormal, negative zero, whole numbers, and any others."""
    kind = np.finfo(dtype)
    special = [kind.smallest_subnormal, kind.smallest_normal * (1 - kind.eps), kind.smallest_normal, kind.max]
    special += [
        0.0,
        -0.0,
        1,
        -3,
        1 + kind.eps,
        1 - kind.epsneg,
        1e10,
        123456,
        1e-5,
        1 / 3,
        -7 * kind.smallest_subnormal,
    ]
    bits = np.random.default_rng(0).integers(0, 2**32, (2000, dtype.itemsize // 4), dtype=np.uint32)
    numbers = bits.view(dtype).ravel()
    numbers = np.concatenate([np.array(special, dtype), numbers[np.isfinite(numbers)]])
    model = nn.Model([nn.Dense(len(numbers), 1)], backend="numpy", dtype=dtype)
    model.layers[0].weights = numbers[:, None]
    model.to_c(tmp_path / "net.h")
    (tmp_path / "main.c").write_text(BYTES)
    subprocess.run([*compiler, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    said = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert bytes.fromhex(said) == numbers.tobytes()


@compiles
@pytest.mark.parametrize("loss", [nn.SoftmaxCrossEntropy, nn.SigmoidBinaryCrossEntropy])
def test_probabilities_or_logits(loss, tmp_path):
    model = network(nn.Tanh(), loss())
    got, _ = run(model, tmp_path, X)
    assert_close(got, model.predict(X), "float32")
    logits, _ = run(model, tmp_path, X, probabilities=False)
    assert_close(logits, network(nn.Tanh()).predict(X), "float32")


@compiles
def test_another_dtype_than_the_models(tmp_path):
    model = network(nn.GELU())
    got, _ = run(model, tmp_path, X, dtype="float64")
    assert_close(got, model.to(dtype="float64").predict(X), "float64")


@compiles
@pytest.mark.parametrize(
    "layers",
    [
        lambda: [nn.Dense(5, 2)],
        lambda: [nn.Standardize.fit(X)],
        lambda: [nn.Dropout(0.5), nn.Standardize.fit(X), nn.ReLU()],
        lambda: [nn.ReLU(), nn.Dense(5, 1)],
        lambda: [nn.Dense(5, 40), nn.Tanh(), nn.Dense(40, 3), nn.ReLU(), nn.Dense(3, 9), nn.Sigmoid(), nn.Softmax()],
        lambda: [nn.Standardize.fit(X), nn.Tanh(), nn.Standardize.fit(X), nn.Dense(5, 5), nn.Dense(5, 2)],
    ],
    ids=["one", "scaled", "no product", "activation first", "deep", "scaled twice"],
)
def test_every_order_of_layers(layers, tmp_path):
    model = nn.Model(layers(), backend="numpy", rng=0)
    got, stack = run(model, tmp_path, X)
    assert_close(got, model.predict(X), "float32")
    scratch = re.findall(r"^    float [ab]\[(\d+)\];$", (tmp_path / "net.h").read_text(), flags=re.M)
    assert stack == 4 * sum(map(int, scratch))


@compiles
@pytest.mark.skipif(os.name == "nt", reason="not every scanf there reads NaN")
def test_nan_and_infinities_travel(tmp_path):
    for name in ("relu", "leaky_relu", "elu", "softplus", "tanh", "softmax"):
        model = nn.Model([LAYERS[name](), nn.Standardize(0, 1, n_inputs=3)], backend="numpy")
        rows = np.array([[np.nan, 1, 2], [np.inf, -1, 0], [0, 1, -2]])
        got, _ = run(model, tmp_path, rows)
        np.testing.assert_allclose(got, model.predict(rows), rtol=1e-5, atol=1e-6)


@compiles
def test_two_networks_in_one_program(tmp_path):
    network(nn.ReLU()).to_c(tmp_path / "a.h", prefix="first")
    network(nn.GELU(), dtype="float64").to_c(tmp_path / "b.h", prefix="Second_net")
    text = (
        '#include "a.h"\n#include "b.h"\n#include "a.h"\nint main(void) { return FIRST_INPUTS - SECOND_NET_INPUTS; }\n'
    )
    (tmp_path / "main.c").write_text(text)
    subprocess.run([COMPILER, *FLAGS, "main.c", "-o", "main", "-lm"], cwd=tmp_path, check=True)
    subprocess.run(["./main"], cwd=tmp_path, check=True)


@compiles
def test_two_names_that_differ_in_case_alone(tmp_path):
    network(nn.ReLU()).to_c(tmp_path / "a.h", prefix="net")
    network(nn.Tanh()).to_c(tmp_path / "b.h", prefix="Net")
    text = (
        '#include "a.h"\n#include "b.h"\nvoid f(const float *x, float *y) { net_predict(x, y); Net_predict(x, y); }\n'
    )
    (tmp_path / "both.c").write_text(text)
    subprocess.run([COMPILER, *FLAGS, "-c", "both.c"], cwd=tmp_path, check=True)


@compiles
def test_without_mathematics_nothing_is_linked(tmp_path):
    model = nn.Model([nn.Standardize.fit(X), nn.Dense(5, 4), nn.LeakyReLU(), nn.Dense(4, 1)], backend="numpy", rng=0)
    model.to_c(tmp_path / "net.h", fold=False)
    assert "#include" not in (tmp_path / "net.h").read_text()
    (tmp_path / "net.c").write_text('#include "net.h"\nvoid f(const float *x, float *y) { net_predict(x, y); }\n')
    subprocess.run([COMPILER, *FLAGS, "-ffreestanding", "-c", "net.c"], cwd=tmp_path, check=True)


def test_the_header_says_what_it_needs():
    text = source(network(nn.ReLU(), nn.SoftmaxCrossEntropy()))
    assert "constants       264 bytes" in text  # 5·7 + 7 + 7·3 + 3 numbers: the scaling is folded
    assert "scratch         28 bytes on the stack" in text
    assert "multiply-adds   56 per call" in text
    assert "#define NET_INPUTS 5\n#define NET_OUTPUTS 3\n" in text
    assert "standardize" not in text
    assert "net_standardize" in source(network(nn.ReLU()), fold=False)
    assert "malloc" not in text


def test_constants_are_exact_and_the_text_is_the_same_each_time(dtype):
    model = network(nn.Tanh(), dtype=dtype.name)
    text = source(model, fold=False)
    assert text == source(model.to(), fold=False)
    written = re.search(r"net_weights1\[35\] = \{(.*?)\}", text, flags=re.S)[1]
    numbers = [float(number.strip().rstrip("f")) for number in written.split(",") if number.strip()]
    np.testing.assert_array_equal(np.array(numbers, dtype), model.layers[1].weights.ravel())


def test_names_become_safe():
    text = source(network(nn.ReLU()), name="a */ ü.h", prefix="REAL_PREFIX")
    assert text.isascii()
    assert text.startswith("/* a __ _.h: ")
    assert "REAL_PREFIX_predict(const float *input" in text


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"prefix": "1net"}, OptionError, "prefix is '1net'"),
        ({"prefix": ""}, OptionError, "prefix"),
        ({"prefix": "nét"}, OptionError, "letters"),
        ({"prefix": None}, DTypeError, "prefix is None"),
        ({"probabilities": 1}, DTypeError, "probabilities is 1"),
        ({"fold": "yes"}, DTypeError, "fold is 'yes'"),
        ({"dtype": "float16"}, DTypeError, "float16"),
    ],
)
def test_bad_options_write_nothing(options, error, words, tmp_path):
    with pytest.raises(error, match=words):
        network(nn.ReLU()).to_c(tmp_path / "net.h", **options)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(OptionError, match=r"layer 2, Cube.*cannot be written as C"):
        network(Cube()).to_c(tmp_path / "net.h")
    model = network(nn.ReLU())
    model.layers[1].weights[0, 0] = np.nan
    with pytest.raises(DataError, match="weights of layer 1 are not all finite"):
        model.to_c(tmp_path / "net.h")
    with pytest.raises(DataError, match="beyond the range of float32"):
        network(nn.ReLU(), dtype="float64", scale=1e200).to_c(tmp_path / "net.h", dtype="float32")
    assert not list(tmp_path.iterdir())
    steep = nn.Model([nn.Dense(5, 2), nn.LeakyReLU(1e300)], backend="numpy")
    with pytest.raises(DataError, match=r"alpha of layer 1 .*beyond the range of float32"):
        steep.to_c(tmp_path / "net.h")
    with pytest.raises(CheckpointError, match="does not exist"):
        network(nn.ReLU()).to_c(tmp_path / "nowhere" / "net.h")
