"""What the tests of the book's Model share: data, a model of each kind, and the book's training arithmetic in NumPy.

`follow` is written from the book's equations alone and knows nothing of nnfast: float64 throughout, op by op, batch by
batch. It prints nothing; it returns the figures that the book's program would print.
"""

from __future__ import annotations

import re

import numpy as np

from nnfast.compat import nnfs


def images(samples=600, classes=10, pixels=64):
    """Pictures of `classes` kinds, drawn with noise; values in [−1, 1], as the book scales its own."""
    rng = np.random.default_rng(5)
    kinds = rng.uniform(-1, 1, (classes, pixels))
    y = rng.integers(0, classes, samples).astype(np.uint8)
    return np.clip(kinds[y] + rng.normal(0, 0.6, (samples, pixels)), -1, 1).astype(np.float32), y


def image_model(pixels=64, classes=10, rate=0.001, hidden=32):
    model = nnfs.Model()
    for part in (nnfs.Layer_Dense(pixels, hidden), nnfs.Activation_ReLU(), nnfs.Layer_Dense(hidden, hidden)):
        model.add(part)
    for part in (nnfs.Activation_ReLU(), nnfs.Layer_Dense(hidden, classes), nnfs.Activation_Softmax()):
        model.add(part)
    optimizer = nnfs.Optimizer_Adam(learning_rate=rate, decay=1e-3)
    model.set(loss=nnfs.Loss_CategoricalCrossentropy(), optimizer=optimizer, accuracy=nnfs.Accuracy_Categorical())
    model.finalize()
    return model


def built(parts, loss, optimizer, accuracy):
    model = nnfs.Model()
    for part in parts:
        model.add(part)
    model.set(loss=loss, optimizer=optimizer, accuracy=accuracy)
    model.finalize()
    return model


def figures(printed):
    """The lines of a training as [word, number, number, …]."""
    rows = []
    for line in printed.strip().splitlines():
        word = re.match(r"(epoch|step|training|validation)\b", line).group()
        rows.append([word, *map(float, re.findall(r"(?<=[ :])-?\d[\d.e-]*", line))])
    return rows


def same_figures(printed, expected, within):
    """Printed are three decimals, so `within` is added to half of the last of them; counts and rates are exact."""
    rows = figures(printed)
    assert [row[0] for row in rows] == [row[0] for row in expected]
    for row, want in zip(rows, expected, strict=True):
        assert len(row) == len(want), (row, want)
        np.testing.assert_allclose(row[1:], want[1:], rtol=0, atol=5.01e-4 + within, err_msg=str((row, want)))


# ---- the book's arithmetic ------------------------------------------------------------------------------------------


def follow(widths, parameters, head, step, x, y, *, epochs, size, strengths, precision=None, validation=None):
    """Train as the book does; the lines it prints, as rows of figures, and the parameters at the end.

    widths      of the layers, ReLU between them; head: "softmax", "sigmoid", "linear" or "absolute"
    parameters  [[W, b], …], step(name, p, g, t) → p after step t (from 0); strengths: (l1, l2) of W and of b
    """
    p = [[np.array(w, np.float64), np.array(b, np.float64)] for w, b in parameters]
    rows, t = [], 0
    batches = range(0, len(x), size)

    def penalty():
        return sum(
            l1 * np.abs(a).sum() + l2 * (a**2).sum() for pair in p for a, (l1, l2) in zip(pair, strengths, strict=True)
        )

    for epoch in range(1, epochs + 1):
        rows.append(["epoch", epoch])
        sums = np.zeros(2)
        for number, start in enumerate(batches):
            bx, by = x[start : start + size].astype(np.float64), y[start : start + size]
            inputs, z = forward(p, bx)
            losses, right, slope = judged(head, z, by, precision)
            sums += losses.sum(), right.sum()
            before, data = penalty(), losses.mean()
            dz = slope / len(bx)
            for i in reversed(range(len(p))):
                gradients = [inputs[i].T @ dz, dz.sum(axis=0, keepdims=True)]
                below = (dz @ p[i][0].T) * (inputs[i] > 0) if i else None
                for k, (l1, l2) in enumerate(strengths):
                    g = gradients[k] + l1 * np.sign(p[i][k]) + 2 * l2 * p[i][k]
                    p[i][k], rate = step((i, k), p[i][k], g, t)
                dz = below
            t += 1
            rows.append(["step", number, right.mean(), data + before, data, before, rate])
        data, now = sums[0] / len(x), penalty()
        rows.append(["training", sums[1] / len(x), data + now, data, now, rate])
        if validation is not None:
            losses, right, _ = judged(head, forward(p, validation[0])[1], validation[1], precision)
            rows.append(["validation", right.mean(), losses.mean()])
    return rows, p


def forward(p, x):
    inputs = [x]
    for i, (w, b) in enumerate(p):
        z = inputs[-1] @ w + b
        inputs.append(np.maximum(z, 0) if i < len(p) - 1 else z)
    return inputs[:-1], inputs[-1]


def judged(head, z, y, precision):
    """Loss of each row, whether it is right (a share), and ∂loss/∂z."""
    if head == "softmax":
        q = np.exp(z - z.max(axis=1, keepdims=True))
        q /= q.sum(axis=1, keepdims=True)
        hot = np.eye(z.shape[1])[y]
        return -np.log((q * hot).sum(axis=1)), q.argmax(axis=1) == y, q - hot
    if head == "sigmoid":
        q = 1 / (1 + np.exp(-z))
        losses = -(y * np.log(q) + (1 - y) * np.log(1 - q))
        return losses.mean(axis=1), ((q > 0.5) == (y == 1)).mean(axis=1), (q - y) / z.shape[1]
    e = z - y
    losses, slope = (e**2, 2 * e) if head == "linear" else (np.abs(e), np.sign(e))
    return losses.mean(axis=1), (np.abs(e) < precision).mean(axis=1), slope / z.shape[1]


def stepper(optimizer):
    """The update of one of the book's optimizers: step(name, p, g, t) → (p, rate)."""
    kept, o = {}, optimizer

    def old(name, key):
        return kept.get((name, key), 0.0)

    def step(name, p, g, t):
        rate = o.learning_rate / (1 + o.decay * t)
        if isinstance(o, nnfs.Optimizer_SGD):
            kept[name, "v"] = o.momentum * old(name, "v") - rate * g
            return p + kept[name, "v"], rate
        if isinstance(o, nnfs.Optimizer_Adam):
            m = kept[name, "m"] = o.beta_1 * old(name, "m") + (1 - o.beta_1) * g
            v = kept[name, "v"] = o.beta_2 * old(name, "v") + (1 - o.beta_2) * g**2
            m, v = m / (1 - o.beta_1 ** (t + 1)), v / (1 - o.beta_2 ** (t + 1))
            return p - rate * m / (np.sqrt(v) + o.epsilon), rate
        rho, share = (o.rho, 1 - o.rho) if isinstance(o, nnfs.Optimizer_RMSprop) else (1, 1)
        c = kept[name, "c"] = rho * old(name, "c") + share * g**2
        return p - rate * g / (np.sqrt(c) + o.epsilon), rate

    return step


# ---- the same by hand -----------------------------------------------------------------------------------------------


def by_hand(model, x, y, epochs, size):
    """What `model.train` does, with the parts' own methods; the losses of all steps, penalties included."""
    losses = []
    for _ in range(epochs):
        for start in range(0, len(x), size):
            bx, by = x[start : start + size], y[start : start + size]
            output = model.forward(bx, training=True)
            losses.append(sum(model.loss.calculate(output, by, include_regularization=True)))
            model.backward(output, by)
            model.optimizer.pre_update_params()
            for layer in model.trainable_layers:
                model.optimizer.update_params(layer)
            model.optimizer.post_update_params()
    return losses
