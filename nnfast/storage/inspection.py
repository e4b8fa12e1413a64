"""What is inside a file, as text for people.

The file may be anybody's: what it says is cut short and made printable.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO

import numpy as np

from nnfast.errors import CheckpointError
from nnfast.storage.file_format import CHECKSUM, Header, read_header, read_tensors, strict_json
from nnfast.storage.npz import npz_entries
from nnfast.storage.stored import FORMAT, POPULATION
from nnfast.text import quantity, table

__all__ = ["report"]

ROWS = 200  # of a table, at most
Arrays = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


def report(file: BinaryIO, path: str, *, packed: bool) -> tuple[str, bool]:
    """The whole text, and whether the content fits its checksum."""
    size = os.fstat(file.fileno()).st_size
    if packed:
        entries = {name: (e.dtype, e.shape) for name, e in npz_entries(file, path).items()}
        facts = [("file", printable(path)), ("size", quantity(size, "B")), ("format", "npz: arrays, no model")]
        return "\n\n".join([_facts(facts), _arrays(entries)]), True
    header = read_header(file, path)
    verdict, sound = _verdict(file, header)
    metadata = header.metadata
    facts = [("file", printable(path)), ("size", quantity(size, "B")), ("checksum", verdict)]
    parts = [_arrays({name: (e.dtype, e.shape) for name, e in header.entries.items()})]
    if metadata.get("format") in (FORMAT, POPULATION):
        versions = [printable(metadata.get(name, "?")) for name in ("version", "producer", "numpy")]
        kind = metadata["format"]
        facts.insert(2, ("format", "{} {}, written by {} with NumPy {}".format(kind, *versions)))
        parts[:0] = _model(header)
        parts += _nested(header, "population") + _nested(header, "run")
    else:
        facts.insert(2, ("format", "safetensors: arrays, no model"))
        facts += [(printable(n), printable(v)) for n, v in list(metadata.items())[:20] if n != CHECKSUM]
    return "\n\n".join([_facts(facts), *parts]), sound


def printable(value: Any, length: int = 100) -> str:
    """A value on one line, without anything that a terminal would act on."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: length + 1])
    return text if len(text) <= length else text[: length - 1] + "…"


def _facts(facts: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in facts) + 2
    return "\n".join(f"{name:{width}}{value}" for name, value in facts)


def _verdict(file: BinaryIO, header: Header) -> tuple[str, bool]:
    ours = header.metadata.get("format") in (FORMAT, POPULATION)
    try:
        read_tensors(file, header, lambda name: False)
    except CheckpointError:
        return "does not fit: the file is damaged", False
    if CHECKSUM not in header.metadata:
        return "missing: the file is damaged" if ours else "none", not ours
    return "fits", True


def _arrays(arrays: Arrays) -> str:
    if not arrays:
        return "no arrays"
    sizes = {name: int(np.prod(shape, dtype=np.float64) * dtype.itemsize) for name, (dtype, shape) in arrays.items()}
    rows = [
        [printable(name, 60), str(dtype), " × ".join(map(str, shape)) or "one number", f"{sizes[name]:,}"]
        for name, (dtype, shape) in sorted(arrays.items(), key=lambda item: _order(item[0]))[:ROWS]
    ]
    if len(arrays) > ROWS:
        rows.append([f"… and {len(arrays) - ROWS} more", "", "", ""])
    rows.append([f"{len(arrays)} arrays", "", "", f"{sum(sizes.values()):,}"])
    return table(["array", "dtype", "shape", "bytes"], rows, right=(3,), total=True)


def _order(name: str) -> int:
    """Parameters first; else as in the file."""
    groups = ["optimizer", "config", "population", "run"]
    group = name.partition(".")[0]
    return groups.index(group) + 1 if group in groups else 0


def _json(header: Header, key: str) -> Any:
    try:
        return strict_json(header.metadata[key], header.path)
    except (CheckpointError, KeyError):
        return None


def _model(header: Header) -> list[str]:
    said = _json(header, "model")
    if not isinstance(said, dict):
        return ["the model's description cannot be read"]
    layers: Any = said.get("layers")
    if not isinstance(layers, list):
        layers = []
    rows = [[str(i), _part(layer) + _remarks(layer)] for i, layer in enumerate(layers[:ROWS])]
    if len(layers) > ROWS:
        rows.append(["…", f"and {len(layers) - ROWS} more"])
    facts = [("dtype", printable(said.get("dtype"))), ("saved on", f"backend {printable(said.get('backend'))}")]
    facts += [(name, _part(said[name])) for name in ("loss", "optimizer") if name in said]
    metrics = said.get("metrics")
    if isinstance(metrics, list) and metrics:
        facts.append(("metrics", ", ".join(_part(m) for m in metrics[:20])))
    facts += [("epochs", printable(said.get("epochs"))), ("key", printable(said.get("key")))]
    if isinstance(said.get("optimizer"), dict):
        facts.insert(-1, ("steps", printable(said["optimizer"].get("steps"))))
    return [table(["#", "layer"], rows, right=(0,)), _facts(facts)]


def _part(said: Any) -> str:
    """A layer, loss, optimizer, metric or schedule as it would be written."""
    if not isinstance(said, dict):
        return printable(said)
    settings = [said.get(key) for key in ("config", "settings", "options")]
    pairs = {k: v for s in settings if isinstance(s, dict) for k, v in s.items()}
    shown = [(k, v) for k, v in pairs.items() if v is not None and v is not False and v != 0]
    values = ", ".join(f"{printable(k, 40)}={_value(v)}" for k, v in shown[:30])
    name = said.get("name") if "class" not in said else said["class"]
    own = " (your own)" if said.get("custom") is True or said.get("kind") == "custom" else ""
    return f"{printable(name, 60)}({values}){own}"


def _remarks(said: Any) -> str:
    return ", frozen" if isinstance(said, dict) and said.get("trainable") is False else ""


def _value(said: Any, depth: int = 0) -> str:
    if isinstance(said, dict) and len(said) == 1:
        ((key, value),) = said.items()
        if key == "$part":
            return _part(value)
        if key == "$float":
            return printable(value, 60)
        if key == "$tuple":
            return _value(value, depth)
        if key in ("$array", "$floats"):
            return f"array {printable(value, 40)}"
    if isinstance(said, dict | list) and depth > 2:
        return f"{len(said)} entries"
    if isinstance(said, dict):
        shown = [f"{printable(k, 40)}: {_value(v, depth + 1)}" for k, v in list(said.items())[:8]]
        return "{" + ", ".join(shown + ["…"] * (len(said) > 8)) + "}"
    if isinstance(said, list):
        return "[" + ", ".join([_value(v, depth + 1) for v in said[:8]] + ["…"] * (len(said) > 8)) + "]"
    return f"{said:g}" if isinstance(said, float) else printable(said, 60)


def _nested(header: Header, key: str) -> list[str]:
    """What differs between models, or where the training stood: short values as they are, long ones by their size."""
    if key not in header.metadata:
        return []
    said = _json(header, key)
    if not isinstance(said, dict):
        return [f"{key}  " + _value(said)]
    facts = [(f"  {printable(name, 40)}", _value(value)) for name, value in list(said.items())[:50]]
    return [f"{key}\n" + _facts(facts)]
