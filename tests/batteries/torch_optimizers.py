"""The same sequence of gradients in torch.optim, float64. Importing this needs PyTorch.

What differs by convention, and how it is mapped:

- L2: the book's penalty is l2·Σp², torch's weight_decay·Σp²/2, so weight_decay = 2·l2. Torch adds it after clipping,
  nnfast before; so with clipping, and for AdamW, whose weight_decay is decoupled, it is added by hand.
- L1: torch has none; it is added by hand, with slope 0 at 0.
- Clipping: `clip_grad_norm_` divides by the norm + 1e-6, so that the equation is written out here.
- The 1/t decay: Adagrad has it (`lr_decay`); elsewhere the rate of the group is set before each step.
- Momentum: torch's velocity is without the rate, which then multiplies all of it; nnfast's has each rate inside, as the
  book's. They agree while the rate is constant, and only then: with decay they are excluded.
- Epsilon, rho (alpha) and the betas have other defaults there; all are given.
"""

from __future__ import annotations

import torch

from batteries.equations import WEIGHTS

__all__ = ["EXCLUDED", "end_in_torch"]

EXCLUDED = {("momentum", True), ("Nesterov", True)}  # (kind, whether the rate decays)


def end_in_torch(setting, sequence):
    """Where the parameters end."""
    p = torch.tensor(sequence.start, dtype=torch.float64)
    parts = p.split([WEIGHTS, len(p) - WEIGHTS]) if setting.kind == "AdamW on weights" else [p]
    by_hand = setting.clip is not None or setting.kind.startswith("AdamW")
    optimizer = _optimizer(setting, parts, 0.0 if by_hand else 2 * setting.l2)
    for t, given in enumerate(torch.tensor(sequence.gradients)):
        g = given + setting.l1 * torch.sign(p) if setting.l1 else given
        if setting.l2 and by_hand:
            g = g + 2 * setting.l2 * p
        if setting.clip is not None:
            g = g * min(1.0, setting.clip / float(torch.linalg.vector_norm(g)))
        for part, gradient in zip(parts, g.split([len(part) for part in parts]), strict=True):
            part.grad = gradient
        if setting.decay and setting.kind != "Adagrad":
            for group in optimizer.param_groups:
                group["lr"] = setting.rate / (1 + setting.decay * t)
        optimizer.step()
    return p.numpy()


def _optimizer(setting, parts, coupled):
    rate, k = setting.rate, setting.numbers
    if setting.kind in ("SGD", "momentum", "Nesterov"):
        nesterov = setting.kind == "Nesterov"
        return torch.optim.SGD(parts, rate, momentum=k.get("momentum", 0), weight_decay=coupled, nesterov=nesterov)
    if setting.kind == "Adagrad":
        return torch.optim.Adagrad(parts, rate, lr_decay=setting.decay, weight_decay=coupled, eps=k["epsilon"])
    if setting.kind == "RMSprop":
        return torch.optim.RMSprop(parts, rate, alpha=k["rho"], eps=k["epsilon"], weight_decay=coupled)
    adam = {"betas": (k["beta_1"], k["beta_2"]), "eps": k["epsilon"]}
    if setting.kind == "Adam":
        return torch.optim.Adam(parts, rate, weight_decay=coupled, **adam)
    decays = (k["weight_decay"], 0.0)  # of all, or of weights and biases
    groups = [{"params": [part], "weight_decay": decay} for part, decay in zip(parts, decays, strict=False)]
    return torch.optim.AdamW(groups, rate, **adam)
