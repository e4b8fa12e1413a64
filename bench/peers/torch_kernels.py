"""PyTorch's counterparts of the protocol's ops: aten calls on arrays that are there beforehand, without the tape.

Each does the least work that gives the op's results; where that is more or less than the op does, a comment says so. In
its favour: results go into given arrays wherever PyTorch can do that, inference mode spares every call the look at
autograd, and backward functions, which have no Python name of their own, are called below the Python layer of
`torch.ops`, in half the time. Sums are float32 where the op's are float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from cases.kernels import KernelCase

from peers.torch_eager import set_threads

__all__ = ["OPS", "Kernel", "subject"]

Given = Mapping[str, Any]  # what the op is given, by the names that it has for its arrays, scalars and attributes
Make = Callable[[Given], Callable[[], Any]]  # from that to one call of the kernel
NN = torch._C._nn  # where torch.nn.functional has its functions from
EACH = 0  # no reduction: one loss for each element


def aten(name: str, overload: str = "grad_input") -> Any:
    found = getattr(getattr(torch.ops.aten, name), overload)
    return getattr(found, "_op", found)  # below the layer of Python, where this release has it there


def call(function: Callable[..., Any], *args: Any, **out: str) -> Make:
    """One call of the function; strings are names of what the op is given."""

    def make(given: Given) -> Callable[[], Any]:
        positional = [given[a] if isinstance(a, str) else a for a in args]
        return partial(function, *positional, **{keyword: given[name] for keyword, name in out.items()})

    return make


# ---- activations, dense layers, dropout: what one call does not do --------------------------------------------------


def softplus_backward(given: Given) -> Callable[[], Any]:
    y = given["y"]
    x = y + torch.log(-torch.expm1(-y))  # PyTorch's reads x where the op reads y
    return partial(aten("softplus_backward"), given["dy"], x, 1, 20, grad_input=given["dx"])


def dense_backward(given: Given) -> Callable[[], Any]:
    """Less than the op: with no activation dz is dy itself, and is not copied."""
    assert given["activation"] == "linear"
    dy, xt, wt = given["dy"], given["x"].T, given["w"].T
    dx, dw, db = given["dx"], given["dw"], given["db"]

    def work() -> None:
        torch.mm(dy, wt, out=dx)
        torch.mm(xt, dy, out=dw)
        torch.sum(dy, 0, out=db)

    return work


def dropout_backward(given: Given) -> Callable[[], Any]:
    """Less than the op: it reads a mask where the op draws it anew."""
    keep = 1 - given["rate"]
    mask = torch.rand(given["dy"].shape) < keep
    return partial(aten("native_dropout_backward", "default"), given["dy"], mask, 1 / keep)


def standardize(given: Given) -> Callable[[], Any]:
    x, mean, std, y = (given[name] for name in ("x", "mean", "std", "y"))

    def work() -> None:
        torch.sub(x, mean, out=y)
        y.div_(std)

    return work


# ---- losses with their gradients ------------------------------------------------------------------------------------


def loss(evaluate: Make, descend: Make) -> Make:
    """A mean over outputs: the first fills `elements` with the losses of all of them, the second dz.

    PyTorch's losses have no weight for a row, so they are left unreduced and weighed here, as its users do that;
    `scale` is the gradient that then comes back, weight/(normaliser·O), one number for each row.
    """

    def make(given: Given) -> Callable[[], Any]:
        z, weight, total, losses = (given[name] for name in ("z", "weight", "total", "losses"))
        part = 1 / (given["normaliser"] * z.shape[1])
        elements, rows = torch.empty_like(z), torch.empty_like(weight)
        given = {**given, "elements": elements, "scale": rows[:, None].expand(z.shape)}
        forward, backward = evaluate(given), descend(given)

        def work() -> None:
            forward()
            torch.mean(elements, 1, out=losses)
            total.add_(torch.dot(weight, losses))
            torch.mul(weight, part, out=rows)
            backward()

        return work

    return make


def logits_loss(given: Given) -> Callable[[], Any]:
    """softplus(z) − y·z, which is faster than binary_cross_entropy_with_logits."""
    z, y, elements = given["z"], given["y"], given["elements"]
    return lambda: NN.softplus(z, out=elements).addcmul_(z, y, value=-1)


def logits_gradient(given: Given) -> Callable[[], Any]:
    """(σ(z) − y)·scale, as autograd has it; there is no aten function for it."""
    z, y, dz, scale = given["z"], given["y"], given["dz"], given["scale"]
    return lambda: torch.sigmoid(z, out=dz).sub_(y).mul_(scale)


def absolute_loss(given: Given) -> Callable[[], Any]:
    z, y, dz, elements = given["z"], given["y"], given["dz"], given["elements"]
    return lambda: torch.abs(torch.sub(z, y, out=dz), out=elements)


def absolute_gradient(given: Given) -> Callable[[], Any]:
    dz, scale = given["dz"], given["scale"]
    return lambda: dz.sign_().mul_(scale)


def poisson_loss(given: Given) -> Callable[[], Any]:
    z, y, dz, elements = given["z"], given["y"], given["dz"], given["elements"]
    return lambda: torch.addcmul(torch.exp(z, out=dz), y, z, value=-1, out=elements)


def poisson_gradient(given: Given) -> Callable[[], Any]:
    y, dz, scale = given["y"], given["dz"], given["scale"]
    return lambda: dz.sub_(y).mul_(scale)


def softmax_cross_entropy(given: Given) -> Callable[[], Any]:
    """Softmax from its logarithm, then −1 at the labels; PyTorch's two backward functions take longer."""
    z, dz, weight, total, losses = (given[name] for name in ("z", "dz", "weight", "total", "losses"))
    label, part, minus = given["y"][:, None], 1 / given["normaliser"], -torch.ones(len(z), 1)
    log_p, picked, rows = torch.empty_like(z), torch.empty_like(minus), torch.empty_like(weight)

    def work() -> None:
        torch.log_softmax(z, 1, out=log_p)
        torch.gather(log_p, 1, label, out=picked)
        torch.neg(picked[:, 0], out=losses)
        total.add_(torch.dot(weight, losses))
        torch.mul(weight, part, out=rows)
        torch.exp(log_p, out=dz).scatter_add_(1, label, minus).mul_(rows[:, None])

    return work


# ---- optimizers -----------------------------------------------------------------------------------------------------


def sgd_step(given: Given) -> Callable[[], Any]:
    """PyTorch's momentum is one of gradients: v = −lr·buffer; `Kernel.results` undoes what stands here."""
    given["v"].div_(-given["learning_rate"])
    numbers = {"lr": given["learning_rate"], "momentum": given["momentum"], "nesterov": given["nesterov"]}
    options = {"weight_decay": 0.0, "dampening": 0.0, "maximize": False, "is_first_step": False}
    return partial(torch._fused_sgd_, [given["p"]], [given["g"]], [given["v"]], **numbers, **options)


def adagrad_step(given: Given) -> Callable[[], Any]:
    state = [given["p"]], [given["g"]], [given["cache"]], [torch.tensor(1.0)]
    options = {"lr_decay": 0.0, "weight_decay": 0.0, "maximize": False}
    fused = aten("_fused_adagrad_", "default")
    return partial(fused, *state, lr=given["learning_rate"], eps=given["epsilon"], **options)


def rmsprop_step(given: Given) -> Callable[[], Any]:
    """PyTorch has no fused form: these are the steps of its own, on an array more that is there beforehand."""
    p, g, cache, root = given["p"], given["g"], given["cache"], torch.empty_like(given["g"])
    rate, epsilon, rho = -given["learning_rate"], given["epsilon"], given["rho"]

    def work() -> None:
        cache.mul_(rho).addcmul_(g, g, value=1 - rho)
        p.addcdiv_(g, torch.sqrt(cache, out=root).add_(epsilon), value=rate)

    return work


def adam_step(given: Given) -> Callable[[], Any]:
    assert not given["weight_decay"]
    state = [given["p"]], [given["g"]], [given["m"]], [given["v"]], [], [torch.tensor(float(given["step"]))]
    options = {"weight_decay": 0.0, "amsgrad": False, "maximize": False}
    betas = {"beta1": given["beta_1"], "beta2": given["beta_2"]}
    fused = torch._fused_adam_
    return partial(fused, *state, lr=given["learning_rate"], eps=given["epsilon"], **betas, **options)


def clip_by_global_norm(given: Given) -> Callable[[], Any]:
    """From the second call on the length is the limit, so most calls only measure it, as the op's do."""
    g, limit = given["g"], given["clip_norm"]

    def work() -> None:
        norm = torch.linalg.vector_norm(g).item()
        if norm > limit:
            g.mul_(limit / norm)

    return work


# ---- the table ------------------------------------------------------------------------------------------------------

KERNELS: Mapping[str, Make] = {
    "relu": call(torch.clamp_min, "x", 0, out="y"),
    "relu_backward": call(aten("threshold_backward"), "dy", "y", 0, grad_input="dx"),
    "leaky_relu": call(NN.leaky_relu, "x", "alpha", out="y"),
    "leaky_relu_backward": call(aten("leaky_relu_backward"), "dy", "y", "alpha", True, grad_input="dx"),
    "elu": call(NN.elu, "x", "alpha", out="y"),
    "elu_backward": call(aten("elu_backward"), "dy", "alpha", 1, 1, True, "y", grad_input="dx"),
    "softplus": call(NN.softplus, "x", out="y"),
    "softplus_backward": softplus_backward,
    "sigmoid": call(torch.sigmoid, "x", out="y"),
    "sigmoid_backward": call(aten("sigmoid_backward"), "dy", "y", grad_input="dx"),
    "tanh": call(torch.tanh, "x", out="y"),
    "tanh_backward": call(aten("tanh_backward"), "dy", "y", grad_input="dx"),
    "gelu": call(NN.gelu, "x", out="y"),
    "gelu_backward": call(aten("gelu_backward"), "dy", "x", grad_input="dx"),
    "silu": call(NN.silu, "x", out="y"),
    "silu_backward": call(aten("silu_backward"), "dy", "x", grad_input="dx"),
    "softmax": call(torch.softmax, "x", 1, out="y"),
    "softmax_backward": call(aten("_softmax_backward_data", "out"), "dy", "y", 1, torch.float32, grad_input="dx"),
    "dense": call(torch.addmm, "b", "x", "w", out="y"),  # its first case has no activation
    "dense_backward": dense_backward,
    "dropout": call(torch.native_dropout, "x", "rate", True),  # more than the op: it stores the mask, in new arrays
    "dropout_backward": dropout_backward,
    "standardize": standardize,
    "standardize_backward": call(torch.div, "dy", "std", out="dx"),
    "softmax_cross_entropy": softmax_cross_entropy,
    "sigmoid_binary_cross_entropy": loss(logits_loss, logits_gradient),
    "binary_cross_entropy": loss(
        call(NN.binary_cross_entropy, "z", "y", None, EACH, out="elements"),
        call(aten("binary_cross_entropy_backward"), "scale", "z", "y", None, EACH, grad_input="dz"),
    ),
    "mean_squared_error": loss(
        call(NN.mse_loss, "z", "y", EACH, out="elements"),
        call(aten("mse_loss_backward"), "scale", "z", "y", EACH, grad_input="dz"),
    ),
    "mean_absolute_error": loss(absolute_loss, absolute_gradient),
    "huber": loss(
        call(NN.huber_loss, "z", "y", EACH, "delta", out="elements"),
        call(aten("huber_loss_backward", "out"), "scale", "z", "y", EACH, "delta", grad_input="dz"),
    ),
    "poisson": loss(poisson_loss, poisson_gradient),
    "sgd_step": sgd_step,
    "adagrad_step": adagrad_step,
    "rmsprop_step": rmsprop_step,
    "adam_step": adam_step,
    "clip_by_global_norm": clip_by_global_norm,
}
OPS = frozenset(KERNELS)
# Not to be compared: what is not computed, and what another generator has drawn.
APART = {"dense_backward": {"dz"}, "dropout": {"y"}, "dropout_backward": {"dx"}}


class Kernel:
    def __init__(self, case: KernelCase) -> None:
        self.asked = case.call()
        with torch.inference_mode():
            arrays = {n: None if a is None else torch.from_numpy(a) for n, a in self.asked.arrays.items()}
            self.given: Given = {**arrays, **self.asked.keywords}
            self.work = KERNELS[case.op](self.given)

    def prepare(self, count: int) -> None:
        pass

    def run(self, count: int) -> None:
        work = self.work
        with torch.inference_mode():
            for _ in range(count):
                work()

    def results(self) -> dict[str, Any]:
        op = self.asked.spec.name
        names = {arg.name for arg, _ in self.asked.args("out", "inout")} - APART.get(op, set())
        found = {name: self.given[name].numpy().copy() for name in names}
        if op == "sgd_step":
            found["v"] *= -self.given["learning_rate"]
        return found


def subject(case: KernelCase) -> Kernel:
    set_threads()
    return Kernel(case)
