"""Programs: what lowering makes of a model, where the arrays lie, what the table says."""

from __future__ import annotations

import numpy as np
import pytest

import nnfast as nn
from nnfast.errors import OptionError, ShapeError
from nnfast.linking import place
from nnfast.opcheck import make_op
from nnfast.program import Layout, Program
from nnfast.protocol import ALIGNMENT, OPS, RUN_SCALARS, Buffer, Op


def _model(**changes):
    layers = changes.pop("layers", None) or [nn.Dense(2, 64), nn.ReLU(), nn.Dropout(0.1), nn.Dense(64, 3)]
    settings = {"loss": nn.SoftmaxCrossEntropy(), "optimizer": nn.Adam(), "metrics": ["accuracy"], "rng": 0}
    return nn.Model(layers, **(settings | {"backend": "numpy"} | changes))


def _names(program):
    return [op.name for op in program.ops]


def test_training_step_of_the_first_program():
    assert _names(_model().program) == [
        "dense",
        "dropout",
        "dense",
        "softmax_cross_entropy",
        "accuracy",
        "dense_backward",
        "dropout_backward",
        "dense_backward",
        *["penalty"] * 4,
        "clip_by_global_norm",
        "adam_step",
    ]


def test_relu_joins_the_dense_before_it_and_gelu_does_not():
    model = _model(layers=[nn.Dense(2, 4), nn.ReLU(), nn.Dense(4, 4), nn.GELU(), nn.Dense(4, 3)])
    forward = [(op.name, dict(op.attributes).get("activation")) for op in model.program.ops if op.stage == "forward"]
    assert forward == [("dense", "relu"), ("dense", "linear"), ("gelu", None), ("dense", "linear")]


def test_first_layer_computes_no_input_gradient():
    last = [op for op in _model().program.ops if op.name == "dense_backward"][-1]
    assert last.args[5] is None  # dx


def test_frozen_lower_layers_end_the_backward_pass_early():
    model = _model(layers=[nn.Dense(2, 8), nn.Tanh(), nn.Dense(8, 8), nn.Tanh(), nn.Dense(8, 3)])
    for layer in model.layers[:4]:
        layer.trainable = False
    backward = [op for op in model.program.ops if op.stage == "backward"]
    assert len(backward) == 1
    assert backward[0].args[5] is None


def test_update_covers_one_range_or_the_trainable_ones():
    model = _model()
    (update,) = [op for op in model.program.ops if op.name == "adam_step"]
    assert update.args[0].shape == (model.parameters.size,)
    model.layers[0].trainable = False
    (update,) = [op for op in model.program.ops if op.name == "adam_step"]
    assert update.args[0].offset == model.program.layout["3.weights"].offset


def test_decay_free_biases_are_ranges_of_their_own():
    program = _model(optimizer=nn.AdamW(decay_biases=False)).program
    decays = [dict(op.scalars)["weight_decay"] for op in program.ops if op.name == "adam_step"]
    assert decays == ["optimizer.weight_decay", 0, "optimizer.weight_decay", 0]


@pytest.mark.parametrize("mode", ["train", "gradient", "evaluate", "predict", "update"])
def test_every_op_fits_its_signature(mode):
    for op in _model()._programs.lower(mode).ops:
        spec = OPS[op.name]
        assert len(op.args) == len(spec.args)
        for arg, buffer in zip(spec.args, op.args, strict=True):
            assert arg.optional or buffer is not None
            assert buffer is None or len(buffer.shape) == len(arg.shape)
        assert {k for k, _ in op.scalars} == set(spec.scalars)
        assert {k for k, _ in op.attributes} == set(spec.attributes)


def test_equal_structures_give_equal_programs_whatever_the_numbers():
    def model(rate, penalty, dropout):
        layers = [nn.Dense(2, 8, weight_l2=penalty), nn.ReLU(), nn.Dropout(dropout), nn.Dense(8, 3)]
        return _model(layers=layers, optimizer=nn.Adam(rate, beta_1=0.5 + rate), rng=None)

    one, other = model(0.1, 0, 0.5).program, model(0.2, 0.1, 0.1).program
    assert one == other
    assert hash(one) == hash(other)


def test_changing_numbers_keeps_the_compiled_runner():
    model = _model()
    _, runner = model._programs.runner("train")
    model.layers[0].weight_l2 = 0.1
    model.optimizer.learning_rate = 0.5
    model.optimizer.clip_norm = 1.0
    model.layers[2].rate = 0.4
    assert model._programs.runner("train")[1] is runner
    model.layers[0].trainable = False
    assert model._programs.runner("train")[1] is not runner


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_are_aligned_and_padding_is_zero(dtype):
    model = _model(dtype=dtype)
    layout = model.program.layout
    itemsize = np.dtype(dtype).itemsize
    used = np.zeros(layout.size, dtype=bool)
    for block in layout.blocks:
        assert block.offset * itemsize % ALIGNMENT == 0
        assert not used[block.offset : block.offset + block.size].any()
        used[block.offset : block.offset + block.size] = True
    assert model.parameters.ctypes.data % ALIGNMENT == 0
    X, y = nn.datasets.spiral(20, 3, 0)
    model.fit(X, y, epochs=3, verbose=0)
    assert not model.parameters[~used].any()


def test_arena_arrays_do_not_overlap_while_both_are_needed():
    layers = [nn.Dense(2, 7), nn.GELU(), nn.Dropout(0.5), nn.Dense(7, 5), nn.SiLU(), nn.Dense(5, 9), nn.Dense(9, 3)]
    program = _model(layers=layers).program
    spans = {}
    for i, op in enumerate(program.ops):
        for b in op.args:
            if b is not None and b.space == "arena":
                spans.setdefault(b, [i, i])[1] = i
    for one, (start, end) in spans.items():
        assert one.offset + one.width <= program.arena_columns
        for other, (begin, stop) in spans.items():
            if one is not other and start <= stop and begin <= end:
                assert one.offset + one.width <= other.offset or other.offset + other.width <= one.offset
    assert program.arena_columns < sum(b.width for b in spans)  # memory is used again


def test_inference_needs_only_two_activations_at_a_time():
    model = nn.Model([nn.Dense(4, 8), nn.Dense(8, 8), nn.Dense(8, 8), nn.Dense(8, 2)], backend="numpy")
    assert model.program.arena_columns == 16


def test_table_shows_ops_shapes_bytes_and_flops():
    text = str(_model().program)
    assert "dense relu" in text
    assert "0.weights[2×64]" in text
    lines = text.splitlines()
    assert lines[0].startswith("train program, float32, 2 → 3, 387 parameters")
    assert lines[1].split() == ["#", "stage", "op", "buffers", "bytes", "FLOPs"]


def test_costs_are_those_counted_by_hand():
    program = nn.Model([nn.Dense(3, 5)], backend="numpy").program
    (cost,) = program.costs(10)
    assert cost.flops == 2 * 10 * 5 * (3 + 1)
    assert cost.bytes == 4 * (10 * 3 + 3 * 5 + 5 + 10 * 5)
    assert program.floor(10, flops_per_second=cost.flops, bytes_per_second=1e30) == pytest.approx(1)
    assert program.floor(10, flops_per_second=1e30, bytes_per_second=cost.bytes / 2) == pytest.approx(2)


def test_backward_counts_less_without_input_gradient():
    program = _model(layers=[nn.Dense(6, 6), nn.Dense(6, 3)]).program
    first, second = (c for op, c in zip(program.ops, program.costs(9), strict=True) if op.name == "dense_backward")
    assert first.flops == 4 * 9 * 6 * 3 + 2 * 9 * 3
    assert second.flops == 2 * 9 * 6 * 6 + 2 * 9 * 6


def test_unfused_program_computes_the_same():
    X, y = nn.datasets.spiral(30, 3, 0)
    layers = [nn.Dense(2, 9), nn.ELU(0.7), nn.Dense(9, 8), nn.Sigmoid(), nn.Dense(8, 3)]
    model = _model(layers=layers, dtype="float64")
    value, gradient = model.loss_and_gradient(X, y)
    plain = model.to()
    plain._programs.fuse = False
    names = _names(plain.program)
    assert {"elu", "elu_backward", "sigmoid", "sigmoid_backward"} <= set(names)
    plain_value, plain_gradient = plain.loss_and_gradient(X, y)
    assert plain_value == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(plain_gradient, gradient, rtol=1e-12, atol=1e-15)


def test_program_is_plain_data():
    program = _model().program
    assert isinstance(program, Program)
    assert set(program.scalars).isdisjoint(RUN_SCALARS)
    named = {name for op in program.ops for _, name in op.scalars if isinstance(name, str)}
    assert named <= {*program.scalars, *RUN_SCALARS}
    with pytest.raises(AttributeError):
        program.mode = "predict"


def test_layout_of_no_parameters():
    assert Layout.of([], "float32").size == 0


def test_only_the_first_of_two_activations_joins_the_dense():
    X, y = nn.datasets.spiral(30, 3, 0)
    model = _model(layers=[nn.Dense(2, 9), nn.ReLU(), nn.Tanh(), nn.Dense(9, 3)], dtype="float64")
    forward = [(op.name, dict(op.attributes).get("activation")) for op in model.program.ops if op.stage == "forward"]
    assert forward == [("dense", "relu"), ("tanh", None), ("dense", "linear")]
    plain = model.to()
    plain._programs.fuse = False
    np.testing.assert_allclose(plain.predict(X), model.predict(X), rtol=1e-12)
    np.testing.assert_allclose(plain.loss_and_gradient(X, y)[1], model.loss_and_gradient(X, y)[1], rtol=1e-12)


@pytest.mark.parametrize("mode", ["train", "gradient", "evaluate", "predict", "update"])
def test_a_program_names_the_scalars_of_its_ops_and_no_others(mode):
    program = _model()._programs.lower(mode)
    named = {name for op in program.ops for _, name in op.scalars if isinstance(name, str)}
    assert set(program.scalars) == named - set(RUN_SCALARS)


def test_a_gradient_program_measures_no_metrics():
    assert "accuracy" not in _names(_model()._programs.lower("gradient"))


def test_arrays_of_one_op_do_not_overlap():
    one, other = Buffer("one", "arena", -1, ("N", 3)), Buffer("other", "arena", -1, ("N", 2))
    (op,), columns = place([Op("python", (one, other))])
    assert sorted(b.offset for b in op.args) in ([0, 2], [0, 3])
    assert columns == 5


def test_only_arrays_of_the_arena_are_placed():
    arena, parameter = Buffer("y", "arena", -1, ("N", 3)), Buffer("y", "parameters", 64, (3,))
    (op,), _ = place([Op("python", (arena, parameter))])
    assert op.args[1] == parameter


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "error", "words"),
    [
        ("dense", [("N", 2), (2, 3), (3,), ("N", 3)], {}, OptionError, "attributes"),
        ("dense", [("N", 2), (2, 3), None, ("N", 3)], {"activation": "linear"}, ShapeError, "b must not be None"),
        ("dense", [("N", 2), (5, 3), (3,), ("N", 3)], {"activation": "linear"}, ShapeError, "w is"),
        ("dense", [("N", 2), (2, 3), (3, 1), ("N", 3)], {"activation": "linear"}, ShapeError, "b is"),
        ("r2_moments", [("N", 2), ("N", 2), None, (2, 2)], {}, ShapeError, "moments is"),
    ],
    ids=["attribute missing", "None", "first dimension", "rank", "fixed dimension"],
)
def test_ops_with_wrong_arrays_are_refused(op, shapes, attributes, error, words):
    args = [None if shape is None else Buffer("array", "parameters", 0, shape) for shape in shapes]
    with pytest.raises(error, match=words):
        make_op("forward", op, args, lambda keyword: 0, attributes)


def test_costs_of_a_training_step_are_those_counted_by_hand():
    program = _model(layers=[nn.Dense(3, 5)], optimizer=nn.SGD(0.1), metrics=[]).program
    costs = {op.name: c for op, c in zip(program.ops, program.costs(10), strict=True)}
    size = program.layout.size
    assert costs["sgd_step"].bytes == 4 * (2 * size + size)  # p is read and written, g is read
    # logits and their gradient, int64 labels, weights, and a float64 sum that is read and written
    assert costs["softmax_cross_entropy"].bytes == 4 * 2 * 10 * 5 + 8 * 10 + 4 * 10 + 8 * 2


def test_floor_takes_the_larger_limit_of_each_op():
    program = nn.Model([nn.Dense(30, 30), nn.GELU()], backend="numpy").program
    dense, gelu = program.costs(1000)
    balance = (dense.flops / dense.bytes * gelu.flops / gelu.bytes) ** 0.5  # flops per byte between those of the two
    expected = dense.flops / balance + gelu.bytes
    assert program.floor(1000, flops_per_second=balance, bytes_per_second=1) == pytest.approx(expected)
