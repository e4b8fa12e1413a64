"""Errors travel: by pickle, as from a process of a pool, and by copy."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import nnfast as nn
from nnfast import errors
from nnfast.commands.parsing import NotHere
from nnfast.storage.files import FileError, MissingFileError

CLASSES = [*(getattr(errors, name) for name in errors.__all__), NotHere, FileError, MissingFileError]
ARGUMENTS = {errors.UnknownNameError: ("metric", "acuracy", ["accuracy"]), errors.UnknownBackend: ("nunpy", ["numpy"])}
WAYS = {f"protocol {n}": lambda e, n=n: pickle.loads(pickle.dumps(e, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)}
WAYS |= {"copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_survives(kind, way):
    error = kind(*ARGUMENTS.get(kind, ("what is wrong",)))
    error.add_note("The name comes from somewhere.")
    error.rows, error.errno = [3, 5], 2
    other = WAYS[way](error)
    assert type(other) is kind
    assert str(other) == str(error)
    assert (other.args, other.__notes__) == (error.args, ["The name comes from somewhere."])
    assert (other.rows, other.errno) == ([3, 5], 2)
    assert repr(other) == repr(error)


def test_the_list_has_every_error():
    assert {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Warning | Exception)
    } == set(errors.__all__)


def test_an_error_comes_out_of_a_pool_of_processes():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(errors.UnknownNameError, match="unknown initializer 'zeroes'; did you mean 'zeros'"):
            pool.submit(nn.Dense, 2, 2, initializer="zeroes").result(timeout=120)
        with pytest.raises(errors.UnknownBackend, match="did you mean 'numpy'"):
            pool.submit(nn.get_backend, "nunpy").result(timeout=120)
