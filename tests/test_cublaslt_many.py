"""Products for many models: each has the bits of the product alone, on the stand-in and, if there is one, on a GPU."""

from __future__ import annotations

import importlib
import itertools

import numpy as np
import pytest

lt = importlib.import_module("nnfast.kernels.cupy_gpu.cublaslt")
emitter = importlib.import_module("nnfast.kernels.cupy_gpu.emitter")
Product, Ref, Apart = emitter.Product, emitter.Ref, emitter.Apart

EPILOGUES = ("", "bias", "relu_bias", "relu_aux_bias", "drelu_bias_grad", "bias_grad")
TURNS = [(False, False), (True, False), (False, True)]
MODELS = 4
MOST = MODELS * lt.WORKSPACE  # bytes: each model may want some of its own


class Memory:
    """Blocks of bytes, one for each model, on the host or on a GPU."""

    def __init__(self, rng, sizes, cupy=None):
        self._cupy = cupy
        rows, inner, columns = sizes
        self.shapes = {"a": (rows, inner), "b": (inner, columns), "c": (rows, columns), "bias": (columns,)}
        self.starts, end = {}, 0
        for name, shape in self.shapes.items():
            self.starts[name] = end
            end += -(-4 * int(np.prod(shape)) // 256) * 256
        self.starts["aux"], self.row = end, -(-columns // 128) * 16
        self.size = end + -(-rows * self.row // 256) * 256
        blocks = rng.standard_normal((MODELS, self.size // 4)).astype(np.float32)
        words = blocks.view(np.uint8)
        words[:, end:] = rng.integers(0, 256, words[:, end:].shape)
        self.blocks = words if cupy is None else cupy.asarray(words)
        self.workspace = np.empty(MOST, np.uint8) if cupy is None else cupy.empty(MOST, np.uint8)

    def address(self, array):
        return array.ctypes.data if self._cupy is None else array.data.ptr

    def product(self, model, turns, epilogue):
        """The product of one model."""
        base = self.address(self.blocks) + model * self.size
        shapes = dict(self.shapes)
        for name, turned in zip("ab", turns, strict=True):
            shapes[name] = shapes[name][::-1] if turned else shapes[name]
        refs = {name: Ref(base + start, shapes.get(name, (shapes["c"][0], self.row)), "f4" if name != "aux" else "u1")
                for name, start in self.starts.items()}  # fmt: skip
        has_aux = epilogue in ("relu_aux_bias", "drelu_bias_grad")
        bias, aux = refs["bias"] if epilogue else None, refs["aux"] if has_aux else None
        return Product(refs["a"], refs["b"], refs["c"], *turns, epilogue, bias, aux)

    def get(self):
        return self.blocks.copy() if self._cupy is None else self._cupy.asnumpy(self.blocks)

    def set(self, words):
        self.blocks[...] = words if self._cupy is None else self._cupy.asarray(words)


def check(library, rng, sizes, turns, epilogue, cupy=None, shared=False):
    """Each model's numbers afterwards are those that its own product leaves, whichever algorithm; how many went."""
    memory = Memory(rng, sizes, cupy)
    before, went = memory.get(), 0
    first = memory.product(0, turns, epilogue)
    bias, aux = (memory.size if ref is not None else 0 for ref in (first.bias, first.aux))
    apart = Apart(MODELS, 0 if shared else memory.size, memory.size, memory.size, bias, aux)
    alone, many = lt.Matmul(library, first), lt.Matmul(library, first._replace(apart=apart))
    place = memory.address(memory.workspace)
    for algorithm in alone.algorithms():
        fitting = many.fits(algorithm, MOST)
        if fitting is None:
            continue
        memory.set(before)
        for model in range(MODELS):
            own = memory.product(model, turns, epilogue)
            own = own._replace(a=first.a) if shared else own
            lt.Matmul(library, own).run(algorithm, place, 0)
        expected = memory.get()
        memory.set(before)
        many.run(fitting, place, 0)
        np.testing.assert_array_equal(memory.get(), expected, err_msg=many.key)
        went += 1
    return went


@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 7, 3), (4, 16, 130)])
@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("shared", [False, True])
def test_each_model_has_the_bits_of_its_own_product(stand_in, rng, sizes, turns, epilogue, shared):
    assert check(stand_in, rng, sizes, turns, epilogue, shared=shared) == 3


def test_on_the_gpu_each_model_has_the_bits_of_its_own_product(rng, capsys):
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    if not cupy.cuda.is_available():
        pytest.skip("there is no GPU")
    library = lt.CublasLt(lt.open_library())
    for turns, epilogue in itertools.product(TURNS, EPILOGUES):
        for sizes in ((5, 7, 3), (64, 32, 32), (300, 64, 130)):
            went = check(library, rng, sizes, turns, epilogue, cupy)
            assert went or epilogue, f"no algorithm of one model goes for many: {turns} {sizes}"
            with capsys.disabled():
                print("\nfor many:", library.version, turns, epilogue or "plain", sizes, went, end="")
    library.close()


def test_what_makes_a_batch_another_product(stand_in, rng):
    memory = Memory(rng, (5, 7, 3))
    first = memory.product(0, (False, False), "")
    many = first._replace(apart=Apart(MODELS, 0, memory.size, memory.size, 0, 0))
    assert lt.product_key(many, "fp32") != lt.product_key(first, "fp32")
    assert lt.product_key(many, "fp32").count(f"of {MODELS}") == 1
    unaligned = many._replace(apart=many.apart._replace(b=memory.size + 4))
    assert lt.product_key(unaligned, "fp32").split(",")[1] == "4"
    assert lt.Matmul(stand_in, many).fits(lt.Algorithm(bytes(64), 0, 1.0)) is None, "no algorithm of this product"
    algorithm = lt.Matmul(stand_in, first).algorithms()[1]
    needed = MODELS * algorithm.workspace
    assert lt.Matmul(stand_in, many).fits(algorithm) == algorithm._replace(workspace=needed)
    assert lt.Matmul(stand_in, many).fits(algorithm, workspace=needed - 1) is None


@pytest.mark.parametrize(
    ("apart", "words"),
    [
        (Apart(2, 0, 0, 8, 0, 0), "one upon the other"),
        (Apart(2, 6, 0, 60, 0, 0), "bytes apart"),
        (Apart(2, 0, 0, 60, 0, 8), "aux"),
    ],
)
def test_batches_that_must_not_reach_the_library(stand_in, apart, words):
    epilogue = "relu_aux_bias" if apart.aux else ""
    bias, aux = (Ref(1 << 20, (3,), "f4"), Ref(1 << 21, (5, 16), "u1")) if epilogue else (None, None)
    refs = Ref(4096, (5, 7), "f4"), Ref(8192, (7, 3), "f4"), Ref(16384, (5, 3), "f4")
    with pytest.raises(AssertionError, match=words):
        lt.Matmul(stand_in, Product(*refs, False, False, epilogue, bias, aux, apart))
