"""A `Target` is one public function and what each of its arguments is like; a `World` holds the objects it works on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import nnfast as nn
from batteries._bad_settings import BACKEND
from batteries._kinds import Draw, Kind
from batteries._watching import process_seen, seen

__all__ = ["FIXED", "Target", "World", "drawn", "method", "plain", "setter"]

FIXED = {"I": 3, "O": 4}  # the inputs and outputs of the models, and the rows that a predictor takes
MODEL_ROWS = (5, 6, 7, 8, 9, 10, 11)


class Target(NamedTuple):
    """`function(world, **arguments)` is the call.

    uses      what of the world it sees, by name
    models    the arguments come to the world's models, so their widths are fixed
    also      further errors that its documentation promises
    ignores   parts of paths of what may change, because the documentation says so
    """

    name: str
    function: Callable[..., Any]
    kinds: Mapping[str, Kind]
    uses: tuple[str, ...] = ()
    models: bool = False
    also: tuple[type[BaseException], ...] = ()
    ignores: tuple[str, ...] = ()


class World:
    """Objects to call methods of, by name, made when they are first asked for, all on one backend."""

    def __init__(self, backend: str, makers: Mapping[str, Callable[[World], Any]]) -> None:
        self.backend = backend
        self._makers = makers
        self._made: dict[str, Any] = {}
        self._last_seen: dict[str, Any] = {}  # by name, what could be seen of an object after the call before
        self._folder = tempfile.TemporaryDirectory(prefix="nnfast-inputs-")
        self.folder = Path(self._folder.name)
        self._fill_folder()

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._makers[name](self)
        return self._made[name]

    def seen(self, names: tuple[str, ...], *, anew: bool) -> dict[str, Any]:
        """All that can be seen of these objects, looked at anew or as it was after the call before."""
        found = {}
        for name in names:
            thing = self[name]
            if anew or name not in self._last_seen:
                self._last_seen[name] = seen(thing, f"the {name}")
            found |= self._last_seen[name]
        return found | process_seen(self.folder)

    def forget(self) -> None:
        """What a call may have changed is made anew, files at once: all objects, since some hold others."""
        self._made.clear()
        self._last_seen.clear()
        self._folder.cleanup()
        self.folder.mkdir()
        self._fill_folder()

    def close(self) -> None:
        self._folder.cleanup()

    def _fill_folder(self) -> None:
        whole = self.folder / "model.nnfast"
        _one_layer().save(whole)
        nn.Population(_one_layer, 3, rng=0).save(self.folder / "population.nnfast")
        content = whole.read_bytes()
        (self.folder / "half.nnfast").write_bytes(content[: len(content) // 2])
        (self.folder / "empty.nnfast").write_bytes(b"")
        (self.folder / "text.txt").write_text("epoch,loss\n")


def _one_layer() -> nn.Model:
    return nn.Model([nn.Dense(FIXED["I"], FIXED["O"])], backend="numpy", rng=0)


def drawn(target: Target, world: World, rng: Any) -> Draw:
    """Sizes that are all different, a dtype, and right values of all arguments."""
    if target.models:
        dims = FIXED | {"N": int(rng.choice(MODEL_ROWS)), "B": 2}
    else:
        sizes = rng.permutation(np.arange(2, 12))
        dims = {symbol: int(size) for symbol, size in zip("NIOPSB", sizes, strict=False)}
    dtype = np.dtype("float32" if target.models or rng.integers(2) else "float64")
    draw = Draw(rng, dtype, world.backend, dims, world.folder, {})
    for name, kind in target.kinds.items():
        draw.right[name] = kind.right(draw)
    return draw


# ---- short forms ----------------------------------------------------------------------------------------------------


def plain(name: str, function: Callable[..., Any], /, *, backend: bool = False, **kinds: Any) -> Target:
    """A function that sees nothing but its arguments."""
    if backend:
        kinds["backend"] = BACKEND
    return Target(name, lambda world, **given: function(**given), kinds)


def method(name: str, of: str, /, **kinds: Any) -> Target:
    """A method, named "Class.method", of an object of the world."""
    attribute = name.rpartition(".")[2]
    return Target(name, lambda world, **given: getattr(world[of], attribute)(**given), kinds, (of,))


def setter(name: str, of: str, kind: Kind) -> Target:
    """The assignment to an attribute, named "Class.attribute"."""
    attribute = name.rpartition(".")[2]
    return Target(name, lambda world, value: setattr(world[of], attribute, value), {"value": kind}, (of,))
