"""The plan of a step on the GPU, without one: which calls in which order, where they read and write, what they cost."""

from __future__ import annotations

import importlib
import itertools

import numpy as np
import pytest

import nnfast as nn

emitter = importlib.import_module("nnfast.kernels.cupy_gpu.emitter")
report = importlib.import_module("nnfast.kernels.cupy_gpu.report")
sources = importlib.import_module("nnfast.kernels.cupy_gpu.sources")

ROWS = 128


class Joining:
    """The policy that joins whatever can be joined."""

    def joins(self, joined, separate):
        return True


def model(*widths, optimizer=None, activation=nn.ReLU, **options):
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Dense(inputs, outputs), activation()]
    optimizer = nn.Adam() if optimizer is None else optimizer
    return nn.Model(layers[:-1], nn.SoftmaxCrossEntropy(), optimizer, backend="numpy", rng=0, **options)


def plan(m, mode="train", policy=None, idle=True, rows=ROWS):
    program = m._programs.lower(mode)
    idles = program.idle_ops(m._programs.scalars(program)) if idle else frozenset()
    return report.nominal_plan(program, rows, policy, idles)


def names(p):
    return [call.kernel if isinstance(call, emitter.Launch) else f"product {call.epilogue}".strip() for call in p.calls]


@pytest.mark.parametrize("hidden", [1, 2, 3, 5])
def test_a_step_with_epilogues_takes_three_calls_per_layer_and_three_more(hidden):
    """begin, L forward products, loss, 2L − 1 backward products, update."""
    layers = hidden + 1
    assert len(names(plan(model(20, *[16] * hidden, 4), policy=Joining()))) == 3 * layers + 2


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_without_epilogues_each_layer_takes_two_more(hidden):
    """A kernel for bias and activation, and one for slopes and bias gradient."""
    layers = hidden + 1
    assert len(names(plan(model(20, *[16] * hidden, 4)))) == 3 * layers + 2 + 2 * layers


def test_the_calls_of_a_small_step_in_order():
    calls = names(plan(model(20, 16, 4), policy=Joining()))
    calls[3] = calls[3][:16]  # the variant for this width
    assert calls == [
        "nnf_begin_step",
        "product relu_aux_bias",
        "product bias",
        "nnf_softmax_xent",
        "product bias_grad",
        "product drelu_bias_grad",
        "product",
        "nnf_adam",
    ]


def test_idle_penalties_and_clips_are_left_out_and_come_back():
    assert "nnf_penalty" not in " ".join(names(plan(model(5, 4, 3))))
    m = model(5, 4, 3, optimizer=nn.Adam(clip_norm=1.0))
    m.layers[0].weight_l2 = 1e-3
    active = names(plan(m))
    assert sum("penalty" in name for name in active) == 1
    assert any("clip" in name or "norm" in name for name in active)


def test_relu_loses_nan_so_only_training_steps_join_it():
    m = model(5, 4, 3)
    assert any("relu" in name for name in names(plan(m, "train", Joining())))
    for mode in ("predict", "evaluate", "gradient", "accumulate"):
        assert not any("relu" in name for name in names(plan(m, mode, Joining())))


def test_every_address_lies_in_a_place_of_the_program():
    """Operands lie within the flat arrays, the arena or the batch; nothing points elsewhere."""
    m = model(20, 16, 4)
    program = m._programs.lower("train")
    p = report.nominal_plan(program, ROWS)
    size = program.arena_size(ROWS) * 4
    for call in p.calls:
        if isinstance(call, emitter.Product):
            for ref in (call.a, call.b, call.c):
                if report.ARENA <= ref.address < report.ARENA + (1 << 32):
                    assert ref.address + ref.size * 4 <= report.ARENA + size


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_op_that_needs_python_is_a_cut(dtype):
    class Own(nn.PythonLayer):
        def compute(self, x, training):
            return x

        def gradient(self, dy):
            return dy

    m = nn.Model([nn.Dense(3, 2), Own()], nn.MeanSquaredError(), nn.SGD(), backend="numpy", dtype=dtype)
    p = plan(m)
    assert not p.is_whole
    assert sum(piece.calls is None for piece in p.pieces) == 2


def test_the_hook_comes_between_gradients_and_update():
    p = plan(model(5, 4, 3, optimizer=nn.SGD(momentum=0.9)))
    before = [c for piece in p.pieces[: p.update_at] for c in piece.calls]
    after = [c for piece in p.pieces[p.update_at :] for c in piece.calls]
    assert not any("sgd" in call.kernel for call in before if isinstance(call, emitter.Launch))
    assert any("sgd" in call.kernel for call in after if isinstance(call, emitter.Launch))


def test_a_program_without_an_update_checks_its_gradient():
    assert names(plan(model(5, 4, 3), "gradient"))[-1] == "nnf_check_finite"
    assert "nnf_check_finite" not in names(plan(model(5, 4, 3), "train"))


def test_what_the_plan_moves_is_what_the_program_says():
    """Bytes of the operands of all calls against `Program.costs`: nothing is read twice that need not be."""
    m = model(64, 32, 10)
    program = m._programs.lower("train")
    p = report.nominal_plan(program, ROWS, None, program.idle_ops(m._programs.scalars(program)))
    products = [call for call in p.calls if isinstance(call, emitter.Product)]
    flops = sum(2 * c.c.size * (c.a.shape[0] if c.transpose_a else c.a.shape[1]) for c in products)
    dense = sum(cost.flops for op, cost in zip(program.ops, program.costs(ROWS), strict=True) if "dense" in op.name)
    assert flops == pytest.approx(dense, rel=0.05)


def test_the_report_names_who_computes_what():
    program = model(5, 4, 3)._programs.lower("train")
    rows = report.report_of(program, None)
    assert [row.op for row in rows] == [op.name for op in program.ops]
    assert "cublasLt" in rows[0].implementation
    assert np.all([row.implementation for row in rows])


def test_job_and_step_are_words_of_eight_bytes():
    """`control.py` fills them by position."""
    gather = importlib.import_module("nnfast.kernels.cupy_gpu.gather")
    for layout in (gather.job_layout(), gather.step_layout()):
        assert layout.itemsize == 8 * len(layout.names)
        assert [layout.fields[name][1] for name in layout.names] == list(range(0, layout.itemsize, 8))


@pytest.mark.parametrize("unit", sources.units())
def test_what_a_compiler_sees_is_ascii(unit):
    """CuPy writes it to a file in the locale's encoding, which may have no Greek."""
    assert sources.expanded(unit).isascii()


# ---- what a step must move, and where it lies meanwhile -------------------------------------------------------------


def cost_of(op, rows=64, **options):
    """Bytes of one op of a model's training step."""
    program = model(16, 8, 5, **options)._programs.lower("train")
    costs = zip(program.ops, program.costs(rows), strict=True)
    return next(cost.bytes for o, cost in costs if o.name == op), program.layout.size


@pytest.mark.parametrize(
    ("optimizer", "op", "bytes_each"),
    [
        (nn.Adam, "adam_step", 28),  # reads p, g, m, v; writes p, m, v
        (nn.AdamW, "adam_step", 28),
        (nn.SGD, "sgd_step", 12),
        (lambda: nn.SGD(momentum=0.9), "sgd_step", 20),
        (nn.RMSprop, "rmsprop_step", 20),
        (nn.Adagrad, "adagrad_step", 20),
    ],
)
def test_bytes_per_parameter_of_an_update(optimizer, op, bytes_each):
    moved, size = cost_of(op, optimizer=optimizer())
    assert moved == bytes_each * size


def test_bytes_per_logit_of_the_loss():
    """4 read and 4 written; beside them a label and a weight per row, and the sum."""
    moved, _ = cost_of("softmax_cross_entropy", rows=64)
    assert moved == 8 * 64 * 5 + (8 + 4) * 64 + 2 * 8


@pytest.mark.parametrize("mode", ["train", "accumulate", "gradient", "evaluate", "predict"])
@pytest.mark.parametrize("rows", [1, 64, 65, 128])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU])
def test_no_op_overwrites_what_a_later_one_still_reads(mode, rows, activation):
    """Follow every byte range of the arena through the step: what is read there must be what its buffer holds."""
    program = model(20, 33, 7, 9, 4, activation=activation)._programs.lower(mode)
    owner = {}  # 16-byte cell of the arena -> the buffer written there last
    for op in program.ops:
        spec = nn.protocol.OPS[op.name]
        for arg, b in zip(spec.args, op.args, strict=True):
            if b is not None and b.space == "arena" and arg.role in ("in", "inout"):
                assert {owner.get(cell) for cell in cells(program, b, rows)} == {b.name}, (op.name, b.name)
        for arg, b in zip(spec.args, op.args, strict=True):
            if b is not None and b.space == "arena" and arg.role in ("out", "inout"):
                owner |= dict.fromkeys(cells(program, b, rows), b.name)


def cells(program, b, rows):
    start = b.offset * program.arena_rows(rows)
    end = start + rows * b.width
    assert end <= program.arena_size(rows)
    return range(start // 4, -(-end // 4))


# ---- many models ----------------------------------------------------------------------------------------------------

many = importlib.import_module("nnfast.kernels.cupy_gpu.many")
planning = importlib.import_module("nnfast.kernels.cupy_gpu.plan")


def plan_at(m, mode, model, policy):
    """The plan of the model-th of many: each place lies as far on as it has been told."""
    program, apart = m._programs.lower(mode), 3 << 20
    kind = "f4" if program.dtype == "float32" else "f8"
    spaces = planning.spaces_of(program)

    def at(n):
        return (n << 40) + model * apart

    ref = emitter.Ref
    batch = planning.Batch(
        ROWS,
        ref(1 << 40, (ROWS, program.n_inputs), kind),  # shared
        ref(at(2), (ROWS,), "i8"),
        None,
        ref(at(3), (ROWS, program.n_outputs), kind) if "output" in spaces else None,
        True,
    )
    flat = {name: at(20 + i) for i, name in enumerate(sorted(spaces | {"parameters", "gradients"}))}
    e = emitter.Emitter(program.dtype, policy)
    found = planning.plan_of(program, planning.Places(flat, at(4), at(5), at(6), at(7), at(8)), batch, e)
    e.place_scratch(at(9), at(10))
    return found


@pytest.mark.parametrize("mode", ["train", "evaluate", "predict"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("policy", [None, Joining()], ids=["separate", "joined"])
def test_the_plans_of_two_models_tell_those_of_all(mode, dtype, policy):
    m = model(20, 16, 9, 4, optimizer=nn.SGD(0.1, momentum=0.9, clip_norm=1.0), dtype=dtype)
    m.layers[0].weight_l2 = 1e-3
    all_of_them = many.spread_plan(*(plan_at(m, mode, k, policy) for k in range(2)), 5)
    assert all_of_them.update_at == plan_at(m, mode, 0, policy).update_at
    for k in range(5):
        alone = plan_at(m, mode, k, policy)
        assert [piece.op for piece in alone.pieces] == [piece.op for piece in all_of_them.pieces]
        for mine, spread in zip(alone.calls, all_of_them.calls, strict=True):
            if isinstance(mine, emitter.Launch):
                assert mine[:3] == spread[:3]
                assert mine.args.tobytes() == spread.args[k].tobytes(), mine.kernel
                continue
            assert spread.apart.models == 5
            for name in ("a", "b", "c", "bias", "aux"):
                here, first, apart = (getattr(x, name) for x in (mine, spread, spread.apart))
                assert here == (None if first is None else first._replace(address=first.address + k * apart)), name


def test_a_policy_is_asked_once():
    class Asked:
        def __init__(self):
            self.times = 0

        def joins(self, joined, separate):
            self.times += 1
            return self.times % 2 == 0

    asked = Asked()
    noted = many.Noted(asked)
    assert [noted.joins([], []) for _ in range(4)] == [False, True, False, True]
    again = many.Repeated(noted.answers)
    assert [again.joins([], []) for _ in range(4)] == [False, True, False, True]
    assert asked.times == 4


def test_every_kernel_has_one_that_takes_a_table():
    for unit in sources.units():
        text, each = sources.expanded(unit), sources.for_each(sources.expanded(unit))
        for name, source in sources.kernels().items():
            if source.unit == unit:
                assert f" {name}(const {source.struct} " in text
                assert f" {name}{sources.EACH}(const {source.struct}* const __restrict__ each) {{" in each
                assert f" {name}(" not in each
