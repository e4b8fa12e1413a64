"""Random ONNX graphs: chains that make sense, with something odd in them now and then."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto, helper, numpy_helper

KINDS = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}
UNKNOWN = ("Clip", "PRelu", "BatchNormalization", "Neg", "Shortcut", "Max", "LogSoftmax", "HardSigmoid")


class Drawn:
    """A graph drawn node by node. `width` is that of the rows, as long as what is drawn makes sense."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.oddness = self.rng.choice([0.02, 0.08])
        self.nodes, self.tensors, self.inputs = [], [], []
        self.at, self.kind = "x", np.float32
        self.opset = int(self.rng.integers(7, 23))
        self.width = w = int(self.rng.integers(1, 5))
        self.shape = self.usually(("N", w), (4, w), ("N", "D"), None, ("N", w + 1), ("N", 2, w), (w,))
        self.input_kind = self.usually(TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.FLOAT16)
        if self.input_kind != TensorProto.FLOAT and not self.odd():
            self.add("Cast", [self.at], to=TensorProto.FLOAT)
        kinds = [name for name in dir(self) if name.startswith("draw_")]
        for _ in range(self.rng.integers(1, 6)):
            getattr(self, self.one_of(*kinds))()
        if self.rng.random() < 0.5:
            self.draw_matmul()

    def odd(self):
        return self.rng.random() < self.oddness

    def one_of(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def usually(self, usual, *odd):
        return self.one_of(*odd) if self.odd() else usual

    def add(self, operator, inputs, outputs=1, **attributes):
        """Add a node; give the name of its last output."""
        made = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        attributes = {name: a for name, a in attributes.items() if a is not None}
        self.nodes.append(helper.make_node(operator, inputs, made, name=f"n{len(self.nodes)}", **attributes))
        self.at = made[0]
        return made[-1]

    def keep(self, value, kind=None):
        """The name of a constant: an initializer, one that is an input as well, a node, or what passes one on."""
        value = np.asarray(value, kind or self.usually(self.kind, np.float16, np.int64, *KINDS))
        name, at = f"c{len(self.tensors)}_{len(self.nodes)}", self.at
        way = self.one_of(*["initializer"] * 6, "input", "Constant", "Identity", "Transpose")
        tensor = numpy_helper.from_array(value.T.copy() if way == "Transpose" else value, name)
        if way == "Constant":
            name = self.add("Constant", [], value=tensor)
        else:
            self.tensors.append(tensor)
        if way == "input":
            self.inputs.append(helper.make_tensor_value_info(name, tensor.data_type, value.shape))
        if way in ("Identity", "Transpose"):
            name = self.add(way, [name])
        self.at = at
        return name

    def numbers(self, *shape):
        """Away from 0, so that quotients are tame; mostly above it, as a scale has to be."""
        value = self.rng.uniform(0.5, 1.5, shape)
        return value if self.rng.random() < 0.7 else value * self.rng.choice([-1, 1], shape)

    def draw_matmul(self):
        n, w = int(self.rng.integers(1, 5)), self.width
        shape = self.usually((w, n), (w + 1, n), (w,), (2, w, n), (w, 0))
        weights = self.keep(self.numbers(*shape) / w)
        both = self.usually((self.at, weights), (weights, self.at), (self.at, self.at))
        self.add("MatMul", both)
        self.width = n

    def draw_gemm(self):
        n, back = int(self.rng.integers(1, 5)), self.one_of(None, 0, 1)
        inputs = [self.at, self.keep(self.numbers(*((n, self.width) if back else (self.width, n))) / self.width)]
        if self.opset < 11 or self.rng.random() < 0.7:
            c = self.usually(self.one_of((n,), (), (1,), (1, n), (1, 1)), (4, 1), (4, n), (1, 1, n), (n + 1,))
            inputs.append(self.keep(self.numbers(*c)))
        factors = {name: self.one_of(None, None, 0.5, -2.0, 0.0) for name in ("alpha", "beta")}
        self.add("Gemm", inputs, transB=back, transA=self.usually(None, 0, 1), **factors)
        self.width = n

    def draw_arithmetic(self):
        w = self.width
        usual = self.one_of((w,), (w,), (), (1,), (1, w), (1, 1))
        shape = self.usually(usual, (w, 1), (4, 1), (4, w), (1, 1, w), (3,), (1, 3), (0,))
        value = self.numbers(*shape) * self.usually(1, 0, np.inf, np.nan, 1e-30)
        both = [self.at, self.keep(value)]
        operator = self.one_of("Add", "Sub", "Mul", "Div")
        self.add(operator, both[:: self.one_of(1, -1) if operator in ("Add", "Mul") else self.usually(1, -1)])

    draw_scaling = draw_arithmetic  # twice as often as others

    def draw_activation(self):
        new = ["Gelu"] if self.opset > 19 else []
        name = self.one_of("Relu", "Sigmoid", "Tanh", "Softplus", "LeakyRelu", "Elu", "Softmax", *new)
        attributes = {}
        if name in ("LeakyRelu", "Elu"):
            attributes["alpha"] = self.usually(self.one_of(None, 0.3, 1.5), -0.5)
        if name == "Softmax":
            attributes["axis"] = self.usually(self.one_of(None, 1, -1), 0, -2)
        if name == "Gelu":
            attributes["approximate"] = self.usually(self.one_of(None, "none"), "tanh")
        self.add(name, [self.at], **attributes)

    def draw_silu(self):
        x = self.at
        self.add("Mul", [self.usually(x, self.add("Tanh", [x])), self.add("Sigmoid", [x])])

    def draw_gelu(self):
        """As it is written in several nodes."""
        if self.opset < 9:  # no Erf yet
            return
        x, shapes = self.at, [(), (1,), (1, 1)]
        root, one, half = (
            self.keep(np.full(self.usually(self.one_of(*shapes), (1, 1, 1), (1, self.width)), number), self.kind)
            for number in (math.sqrt(self.usually(2, 3)), self.usually(1, 2), self.usually(0.5, 1))
        )
        self.add("Add", [self.add("Erf", [self.add(self.usually("Div", "Mul"), [x, root])]), one])
        order = self.rng.permutation([x, self.at, half])
        self.add("Mul", [self.add("Mul", order[:2]), order[2]])

    def draw_passing(self):
        getattr(self, self.one_of("_dropout", "_cast", "_reshape"))()
        self.add("Identity", [self.at])

    def _dropout(self):
        if self.opset < 12:
            return
        inputs = [self.at, self.one_of("", self.keep(0.5, self.kind)), self.keep(self.usually(False, True), np.bool_)]
        mask = self.add("Dropout", inputs[: self.one_of(1, 3)], outputs=2)
        if self.odd():
            self.add("Cast", [mask], to=KINDS[self.kind])

    def _cast(self):
        self.kind = self.usually(np.float32, np.float64)
        self.add("Cast", [self.at], to=self.usually(KINDS[self.kind], TensorProto.INT64, TensorProto.FLOAT16))

    def _reshape(self):
        w = self.width
        if self.rng.random() < 0.5:
            self.add("Flatten", [self.at], axis=self.usually(self.one_of(None, 1), 0, 2))
        else:
            right = self.one_of((-1, w), (0, -1), (0, w))
            shape = self.usually(right, (-1, w + 1), (-1, 1), (1, -1), (-1,), (-1, 1, w))
            self.add("Reshape", [self.at, self.keep(shape, np.int64)])

    def draw_unknown(self):
        """What nnfast does not read."""
        if not self.odd():
            return
        kind = self.one_of(*UNKNOWN)
        if kind == "BatchNormalization":
            self.add(kind, [self.at, *(self.keep(np.full(self.width, n), self.kind) for n in (2, 1, 0.5, 3))])
        elif kind in ("PRelu", "Max") or (kind == "Clip" and self.opset >= 11):
            self.add(kind, [self.at, self.keep(0 if kind == "Clip" else self.numbers(self.width), self.kind)])
        elif kind == "Shortcut":
            self.add("Add", [self.at, self.add("Relu", [self.at])])
        else:
            self.add(kind, [self.at])

    def proto(self):
        """The model, whose output has no declared type."""
        self.nodes.append(helper.make_node("Identity", [self.at], ["y"], name="last"))
        x = helper.make_tensor_value_info("x", self.input_kind, self.shape)
        y = helper.make_empty_tensor_value_info("y")
        graph = helper.make_graph(self.nodes, "drawn", [x, *self.inputs], [y], self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)
