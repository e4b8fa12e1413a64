"""What nnfast is compared with: one file for each library and kind of work, and what all of them share.

A peer's `trainer(case)` starts from the case's weights and takes the case's rows in the case's order. Its class derives
from `Trainer`; importing its file loads the library it needs, so only that contender's own process does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

__all__ = ["KINDS", "PEERS", "Peer", "Trainer", "named", "of"]

KINDS = ("train", "kernel", "function", "predict", "population")


@dataclass(frozen=True)
class Peer:
    """One way to do the work with somebody else's library; `files` names its file for each kind that it can do."""

    name: str
    title: str
    packages: tuple[str, ...]
    files: Mapping[str, str] = field(hash=False)
    lacks: frozenset[str] = frozenset()  # ops of the protocol that it has no kernel for

    def missing(self) -> str | None:
        """None, or why it is left out."""
        absent = [package for package in self.packages if find_spec(package) is None]
        return f"{absent[0]} is not installed (pip install nnfast[bench])" if absent else None

    def module(self, kind: str) -> str:
        return self.files[kind]


PEERS = (
    Peer("book", "the book's NumPy", ("numpy",), {"train": "book", "predict": "book_predict"}),
    Peer("scikit_learn", "scikit-learn", ("sklearn",), {"train": "scikit_learn", "predict": "scikit_predict"}),
    Peer(
        "torch_eager",
        "PyTorch, eager",
        ("torch",),
        {"train": "torch_eager", "kernel": "torch_kernels", "function": "torch_ops", "predict": "torch_ops"},
        lacks=frozenset(
            {
                "accuracy",
                "binary_accuracy",
                "categorical_cross_entropy",
                "batch_penalty",
                "penalty",
                "r2_moments",
                "random_search_accept",
                "random_search_propose",
                "regression_accuracy",
                "top_k_accuracy",
            }
        ),
    ),
    Peer("torch_compiled", "PyTorch, torch.compile", ("torch",), {"train": "torch_compiled"}),
    Peer("jax_step", "JAX, jitted step", ("jax",), {"train": "jax_step", "predict": "jax_predict"}),
    Peer("jax_loop", "JAX, whole loop", ("jax",), {"train": "jax_loop", "population": "jax_population"}),
    Peer("torch_vmap", "PyTorch, torch.func", ("torch",), {"population": "torch_population"}),
    Peer("scikit_joblib", "scikit-learn, joblib", ("sklearn", "joblib"), {"population": "scikit_population"}),
    Peer("keras_jax", "Keras 3 on JAX", ("keras", "jax"), {"train": "keras_jax"}),
    Peer("tinygrad_jit", "tinygrad, TinyJit", ("tinygrad",), {"train": "tinygrad_jit"}),
    Peer("onnx_runtime", "ONNX Runtime", ("onnxruntime", "onnx"), {"predict": "onnx_runtime"}),
)


def of(kind: str) -> list[Peer]:
    """The peers that do this kind of work."""
    return [peer for peer in PEERS if kind in peer.files]


def named(name: str) -> Peer:
    return next(peer for peer in PEERS if peer.name == name)


class Trainer:
    """Counts epochs and has their row orders ready; drawing them is on nobody's clock but nnfast's own."""

    def __init__(self, case: Any) -> None:
        self.case = case
        self.orders: Any = None  # (epochs, rows) of the next `run`, where the case is reshuffled
        self._epochs = 0

    def prepare(self, epochs: int) -> None:
        if self.case.shuffle:
            self.orders = self.case.orders(self._epochs, epochs)
        self._epochs += epochs

    def run(self, epochs: int) -> None:
        """Train that many epochs; returns when the work is done."""
        raise NotImplementedError

    def results(self) -> list[Any]:
        """The weights now: [W1, b1, W2, b2, …], each W (inputs, outputs)."""
        raise NotImplementedError
