"""Files of every version of the format, each written when it was new, are read and gone on with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nnfast as nn
from nnfast import checkpoint
from nnfast.storage.stored import VERSION

FILES = sorted((Path(__file__).parent / "old_files").glob("*.nnfast"))


def test_there_is_a_file_of_every_version():
    assert {file.name for file in FILES} == {f"version-{n}.nnfast" for n in range(1, VERSION + 1)}
    for file in FILES:
        assert f"nnfast {file.stem.removeprefix('version-')}, written by" in checkpoint.inspect(file), file.name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_files_of_every_version_are_read(file, backend):
    said = checkpoint.read_run(file)
    model = nn.load(file, backend=backend)
    np.testing.assert_allclose(model.predict(said["X"]), said["answer"], rtol=1e-9, atol=1e-12)
    model.fit(said["X"], said["y"], epochs=2, batch_size=8, verbose=0)
    np.testing.assert_allclose(model.predict(said["X"]), said["later"], rtol=1e-8, atol=1e-12)
    model.load_weights(file)
    np.testing.assert_allclose(model.predict(said["X"]), said["answer"], rtol=1e-9, atol=1e-12)
