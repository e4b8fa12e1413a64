"""Penalties, the limit on the gradient's length, and the optimizers: P parameters, updated in place."""

from __future__ import annotations

import math

from .arrays import double

__all__ = ["adagrad_step", "adam_step", "batch_penalty", "clip_by_global_norm", "penalty", "rmsprop_step", "sgd_step"]


def penalty(p, g, total, *, l1, l2):
    """The slope of |p| at 0 is 0"""
    xp = p.__array_namespace__()
    if l1:
        total[...] = total + l1 * xp.sum(xp.abs(double(p)))
        if g is not None:
            g[...] = g + l1 * xp.sign(p)
    if l2:
        total[...] = total + l2 * xp.sum(double(p) * double(p))
        if g is not None:
            g[...] = g + 2 * l2 * p


def batch_penalty(p, g, total, *, normaliser, l1, l2):
    penalty(p, g, total, l1=l1 / normaliser, l2=l2 / normaliser)


def clip_by_global_norm(g, *, clip_norm):
    """A norm that is NaN changes nothing; one that is infinite follows the equation"""
    if clip_norm == math.inf:
        return
    xp = g.__array_namespace__()
    norm = math.sqrt(float(xp.sum(double(g) * double(g))))
    if norm > clip_norm:
        g[...] = g * (clip_norm / norm)


def sgd_step(p, g, v, *, learning_rate, momentum, nesterov):
    if v is None:
        p[...] = p - learning_rate * g
        return
    v[...] = momentum * v - learning_rate * g
    p[...] = p + (momentum * v - learning_rate * g if nesterov else v)


def adagrad_step(p, g, cache, *, learning_rate, epsilon):
    cache[...] = cache + g * g
    _descend(p, g, cache, learning_rate, epsilon)


def rmsprop_step(p, g, cache, *, learning_rate, epsilon, rho):
    cache[...] = rho * cache + (1 - rho) * g * g
    _descend(p, g, cache, learning_rate, epsilon)


def adam_step(p, g, m, v, *, learning_rate, step, beta_1, beta_2, epsilon, weight_decay):
    m[...] = beta_1 * m + (1 - beta_1) * g
    v[...] = beta_2 * v + (1 - beta_2) * g * g
    if weight_decay:
        p[...] = p - learning_rate * weight_decay * p
    m_hat = m / (1 - beta_1**step)
    v_hat = v / (1 - beta_2**step)
    _descend(p, m_hat, v_hat, learning_rate, epsilon)


def _descend(p, direction, squares, rate, epsilon):
    """p −= rate·direction/(√squares + ε)"""
    p[...] = p - rate * (direction / (p.__array_namespace__().sqrt(squares) + epsilon))
