"""From layers to a Program: a `Builder` collects the ops that layers, loss, metrics and optimizer ask for.

Each part describes itself through the builder (`Layer.lower(b)`, `Loss.lower(b)`, …) and names its arrays symbolically;
`Builder.finish` links the gradients backwards through the layers, drops what nobody needs, and gives every array its
place in the arena. A layer of your own uses the same calls: see `Layer.lower`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from nnfast.errors import OptionError
from nnfast.linking import Part, check_penalties, link_backward, place, rename
from nnfast.opcheck import make_op
from nnfast.program import Layout, Program
from nnfast.protocol import OPS, RUN_SCALARS, Buffer, Op

__all__ = ["FUSED_ACTIVATIONS", "Builder"]

_NONE: Mapping[str, Any] = MappingProxyType({})

# Activations that `dense` applies itself: elementwise, with a derivative that needs only the output.
FUSED_ACTIVATIONS = ("relu", "leaky_relu", "elu", "softplus", "sigmoid", "tanh")


class Builder:
    """Collects one Program. Attributes for those who describe themselves:

    x               what comes in: the output of the layer before, or the batch
    dy, dx          gradient with respect to this layer's output and input
    training        whether dropout acts
    differentiate   whether backward ops are wanted
    index           the layer's place in the model
    """

    def __init__(
        self,
        mode: str,
        dtype: str,
        layout: Layout,
        n_inputs: int,
        *,
        training: bool | None = None,
        frozen: frozenset[str] = frozenset(),
        fuse: bool = True,
    ) -> None:
        self.mode = mode
        self.dtype = dtype
        self.layout = layout
        self.n_inputs = n_inputs
        self.training = mode in ("train", "accumulate") if training is None else training
        self.differentiate = mode in ("train", "gradient", "accumulate")
        self.frozen = frozen  # names of the blocks that training leaves alone
        self.fuse = fuse
        self.index = -1
        self.parameter_space = "parameters"  # a random search reads its candidate instead
        self.slots: tuple[str, ...] = ()
        self.state = 0
        self.x = Buffer("x", "x", 0, ("N", n_inputs))
        self._parts: list[Part] = []
        self._tail: list[Op] = []  # loss and metrics
        self._penalties: list[Op] = []
        self._updates: list[Op] = []
        self._proposals: list[Op] = []
        self._keeps_best = False
        self._loss_gradient: Buffer | None = None
        self.head: str | None = None  # the activation that makes probabilities of the output
        self._owner: tuple[str, tuple[str, ...]] = ("", ())  # prefix and scalar names of whoever is describing himself
        self._scalars: list[str] = []
        self._sums: list[str] = ["loss", "penalty"]

    # ---- for layers -------------------------------------------------------------------------------------------------

    @contextmanager
    def layer(self, index: int, scalars: tuple[str, ...], trainable: bool) -> Iterator[None]:
        """Everything emitted inside belongs to the layer at `index`."""
        self.index = index
        part = Part(str(index), self.x, trainable)
        self._parts.append(part)
        self._owner = (str(index), scalars)
        yield
        self.x = part.y

    @property
    def dy(self) -> Buffer:
        return self._parts[-1].dy

    @property
    def dx(self) -> Buffer:
        return self._parts[-1].dx

    def output(self, width: int) -> Buffer:
        """The array that this layer gives to the next: (N, width). Call it once; without it the layer passes x on."""
        part = self._parts[-1]
        if part.y is not part.x:
            raise OptionError(
                "a layer calls b.output once, and b.activation calls it too; for further arrays: b.scratch"
            )
        part.y = Buffer(f"{part.prefix}.y", "arena", -1, ("N", width))
        return part.y

    def scratch(self, name: str, width: int) -> Buffer:
        """A further (N, width) array, kept as long as an op of this layer names it."""
        return Buffer(f"{self._parts[-1].prefix}.scratch.{name}", "arena", -1, ("N", width))

    def parameter(self, name: str, *, flat: bool = False) -> Buffer:
        """One of this layer's parameter arrays."""
        return self._block(name, self.parameter_space, flat)

    def gradient(self, name: str, *, flat: bool = False) -> Buffer | None:
        """Where its gradient goes; None for a frozen layer."""
        if not self._parts[-1].trainable:
            return None
        return self._block(name, "gradients", flat)

    def _block(self, name: str, space: str, flat: bool) -> Buffer:
        block = self.layout[f"{self._parts[-1].prefix}.{name}"]
        prefix = "d" if space == "gradients" else ""
        return Buffer(prefix + block.name, space, block.offset, (block.size,) if flat else block.shape)

    def forward(self, op: str, *args: Buffer | None, scalars: Mapping[str, Any] = _NONE, **attributes: Any) -> None:
        """Emit an op of the forward pass, its arrays in the order of the op's signature."""
        self._parts[-1].forward.append(self._op("forward", op, args, scalars, attributes))

    def backward(self, op: str, *args: Buffer | None, scalars: Mapping[str, Any] = _NONE, **attributes: Any) -> None:
        """Emit an op of the backward pass; ignored where no gradient is wanted."""
        if self.differentiate:
            self._parts[-1].backward.append(self._op("backward", op, args, scalars, attributes))

    def penalize(self, name: str, l1: str, l2: str, *, by_batch: bool = False, gradient: bool = True) -> None:
        """Add l1·Σ|p| + l2·Σp² of a parameter array to the loss, the strengths being scalars of this layer.

        `by_batch` divides that by the number of the batch's rows, or the sum of their weights, as the loss is: then it
        is the whole loss, of all rows together, that has this penalty. Without `gradient` the layer adds that itself.
        """
        if not isinstance(l1, str) or not isinstance(l2, str):
            raise OptionError(f"the penalty of {name!r} has strengths {l1!r} and {l2!r}; expected names of scalars")
        g = self.gradient(name, flat=True) if self.differentiate and gradient else None
        args = (self.parameter(name, flat=True), g, self.sum("penalty"))
        op = "batch_penalty" if by_batch else "penalty"
        self._penalties.append(self._op("penalty", op, args, {"l1": l1, "l2": l2}, {}))

    def python(self, forward: Callable[..., None], backward: Callable[..., None] | None, y: Buffer) -> None:
        """Cut the program: `forward(x, y)` and `backward(x, dy, dx)` are called as they are, outside any kernel.

        That backward names x keeps x's place in the arena from being used again before it.
        """
        part = self._parts[-1]
        if self.parameter_space != "parameters" and part.trainable and self._has_parameters(part):
            raise OptionError("a layer in plain Python reads its own parameters, so a random search cannot vary them")
        part.forward.append(Op("python", (part.x, y), attributes=(("call", forward),)))
        if self.differentiate and backward is not None:
            part.backward.append(Op("python", (part.x, part.dy, part.dx), (), (("call", backward),), "backward"))

    def activation(self, name: str, scalars: Mapping[str, Any] = _NONE) -> None:
        """An elementwise activation: joined to the dense op before it where it can be, else an op of its own."""
        if self.fuse and self._fuse(name, scalars):
            return
        x, y = self.x, self.output(self.x.width)
        self.forward(name, x, y, scalars=scalars)
        saved = x if OPS[f"{name}_backward"].args[0].name == "x" else y
        self.backward(f"{name}_backward", saved, self.dy, self.dx, scalars=scalars)

    def _fuse(self, name: str, scalars: Mapping[str, Any]) -> bool:
        before = next((p for p in reversed(self._parts) if p.forward), None)
        if name not in FUSED_ACTIVATIONS or before is None or before.y != self.x:
            return False
        ops = [op.name for op in (*before.forward, *before.backward)]
        if ops != ["dense", "dense_backward"][: 1 + len(before.backward)]:
            return False
        op = before.forward[0]
        if dict(op.attributes)["activation"] != "linear":
            return False
        pairs = tuple((s, self._scalar(s, scalars)) for s in OPS[name].scalars) or (("alpha", 0),)
        attributes = (("activation", name),)
        before.forward[0] = op._replace(scalars=pairs, attributes=attributes)
        if before.backward:
            x, w, _, dy, _, dx, dw, db = before.backward[0].args
            args = (x, w, before.y, dy, dy, dx, dw, db)
            before.backward[0] = before.backward[0]._replace(args=args, scalars=pairs, attributes=attributes)
        return True

    # ---- for losses, metrics and optimizers -------------------------------------------------------------------------

    @contextmanager
    def owner(self, prefix: str, scalars: tuple[str, ...]) -> Iterator[None]:
        """Scalars named inside belong to `prefix` ("loss", "optimizer", …)."""
        self._owner = (prefix, scalars)
        yield

    def sum(self, name: str, shape: tuple[int, ...] = ()) -> Buffer:
        """A float64 number (or a few) of the step's sums, zero when the step begins. The same name is the same sum."""
        if name not in self._sums:
            if shape:
                count = Buffer(name, "sums", 0, shape).width
                self._sums += [f"{name}.{i}" if i else name for i in range(count)]
            else:
                self._sums.append(name)
        return Buffer(name, "sums", self._sums.index(name), shape)

    def loss(self, op: str) -> None:
        """Emit the loss of the model's output against the batch's targets."""
        z = self.x
        self._loss_gradient = Buffer("loss.dz", "arena", -1, z.shape) if self.differentiate else None
        args = (z, self.target, self.weight, self.sum("loss"), self._loss_gradient, None)
        self._tail.append(self._op("loss", op, args, {}, {}))

    def python_loss(self, call: Callable[..., None]) -> None:
        """Cut the program at the loss: `call(z, y, weight, total, dz, normaliser=…)` does what a loss op does."""
        self._loss_gradient = Buffer("loss.dz", "arena", -1, self.x.shape) if self.differentiate else None
        args = (self.x, self.target, self.weight, self.sum("loss"), self._loss_gradient)
        self._tail.append(Op("python", args, (("normaliser", "normaliser"),), (("call", call),), "loss"))

    def metric(self, op: str, *args: Buffer | None) -> None:
        self._tail.append(self._op("metric", op, args, {}, {}))

    def python_metric(self, call: Callable[..., None], total: Buffer, *, weighted: bool = True) -> None:
        """Cut the program after the loss: `call(output, y, weight, total)` adds its sum over the batch to `total`.

        One that is not `weighted` is called without the weights.
        """
        args = (self.prediction, self.target, *([self.weight] if weighted else []), total)
        self._tail.append(Op("python", args, (), (("call", call),), "metric"))

    @property
    def prediction(self) -> Buffer:
        """The model's output as `predict` gives it, for metrics: probabilities where the loss takes logits."""
        if self.head is None:
            return self.x
        p = Buffer("prediction", "arena", -1, self.x.shape)
        if all(p not in op.args for op in self._tail):
            self._tail.append(self._op("metric", self.head, (self.x, p), {}, {}))
        return p

    @property
    def target(self) -> Buffer:
        return Buffer("y", "y", 0, ("N", self.x.width))

    @property
    def weight(self) -> Buffer:
        return Buffer("weight", "weight", 0, ("N",))

    def flat(self, space: str, offset: int = 0, size: int | None = None) -> Buffer:
        """A range of a flat array: "parameters", "gradients" or a slot."""
        size = self.layout.size - offset if size is None else size
        whole = size == self.layout.size
        return Buffer(space if whole else f"{space}[{offset}:{offset + size}]", space, offset, (size,))

    def update(self, op: str, *args: Buffer | None, scalars: Mapping[str, Any] = _NONE, **attributes: Any) -> None:
        self._updates.append(self._op("update", op, args, scalars, attributes))

    def propose(self, op: str, *args: Buffer | None, scalars: Mapping[str, Any] = _NONE, **attributes: Any) -> None:
        """Emit an op that runs before the forward pass."""
        self._proposals.append(self._op("propose", op, args, scalars, attributes))

    def keep_best(self) -> None:
        """Emit, after loss and metrics, the op that keeps the candidate if it is better than the best so far."""
        self._keeps_best = True

    def ranges(self, key: Callable[[str], Any] = lambda name: None) -> list[tuple[int, int, Any]]:
        """(offset, size, key) of the longest runs of trainable parameters, padding included, with equal `key(name)`."""
        runs: list[tuple[int, int, Any]] = []
        blocks = self.layout.blocks
        ends = [*[b.offset for b in blocks[1:]], self.layout.size]
        for block, end in zip(blocks, ends, strict=False):
            if block.name in self.frozen:
                continue
            k = key(block.name)
            if runs and runs[-1][2] == k and runs[-1][0] + runs[-1][1] == block.offset:
                runs[-1] = (runs[-1][0], end - runs[-1][0], k)
            else:
                runs.append((block.offset, end - block.offset, k))
        return runs

    # ---- finishing --------------------------------------------------------------------------------------------------

    def _op(
        self,
        stage: str,
        name: str,
        args: Sequence[Buffer | None],
        scalars: Mapping[str, Any],
        attributes: Mapping[str, Any],
    ) -> Op:
        return make_op(stage, name, args, lambda keyword: self._scalar(keyword, scalars), attributes)

    def _scalar(self, keyword: str, given: Mapping[str, Any]) -> str | float:
        """Where an op's scalar comes from: the run, a number, or a scalar of the owner (its own name by default)."""
        if keyword in RUN_SCALARS:
            return keyword
        source = given.get(keyword, keyword)
        if not isinstance(source, str):
            return source if isinstance(source, int) else float(source)
        prefix, names = self._owner
        if source not in names:
            raise OptionError(f"scalar {source!r} is not among the scalars of {prefix!r}: {names}")
        name = f"{prefix}.{source}"
        if name not in self._scalars:
            self._scalars.append(name)
        return name

    def lone(self) -> tuple[list[Op], list[Op], Buffer]:
        """Forward ops, backward ops with penalties, and output of the only layer, for calling it by hand."""
        (part,) = self._parts
        return part.forward, part.backward + self._penalties, part.y

    def finish(self) -> Program:
        n_outputs = self.x.width
        ops = [*self._proposals]
        for part in self._parts:
            ops += part.forward
        ops += self._tail
        if self.mode == "predict":
            if self.x.space != "arena":
                raise OptionError("no layer of the model emits an op: there is nothing to compute")
            ops = rename(ops, {self.x.name: Buffer("output", "output", 0, self.x.shape)})
        if self.differentiate and self._loss_gradient is not None:
            ops += link_backward(self._parts, self._loss_gradient, self._trainable)
        if self._tail:
            check_penalties(self._penalties, ops, self._parts)
            ops += self._penalties
        if self.mode == "update":
            ops = []
        if self.mode in ("train", "update"):
            ops += self._updates
        if self.mode == "train" and self._keeps_best:
            ops.append(self._accept())
        placed, columns = place(ops)
        named = {source for op in placed for _, source in op.scalars}
        return Program(
            self.mode,
            self.training,
            self.dtype,
            tuple(placed),
            self.layout,
            self.n_inputs,
            n_outputs,
            self.slots,
            self.state,
            tuple(self._sums),
            tuple(n for n in self._scalars if n in named),
            columns,
        )

    def _accept(self) -> Op:
        """Keep the candidate if its sums, which are all known by now, are better than the best so far."""
        self.state = len(self._sums)
        sums, best = Buffer("sums", "sums", 0, (self.state,)), Buffer("best", "state", 0, (self.state,))
        args = (self.flat("parameters"), self.flat(self.parameter_space), sums, best)
        return self._op("update", "random_search_accept", args, {}, {})

    def _has_parameters(self, part: Part) -> bool:
        return any(b.name.startswith(f"{part.prefix}.") for b in self.layout.blocks)

    @property
    def _trainable(self) -> set[str]:
        """Prefixes of the layers with parameters that train."""
        return {b.name.partition(".")[0] for b in self.layout.blocks if b.name not in self.frozen}
