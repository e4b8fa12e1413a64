"""The functions of a C export: what a network does to a row, each written once, for float or double.

NaN goes through as in the reference backend: every choice is made by `x <= 0`, false for NaN. The elementwise ones may
work in place.
"""

from __future__ import annotations

from collections.abc import Set

__all__ = ["functions_for"]

# name -> the expression for y[i], with v = x[i]; S is the suffix of constants and of functions of <math.h>
_ELEMENTWISE = {
    "relu": "v <= 0 ? 0 : v",
    "leaky_relu": "v <= 0 ? alpha * v : v",
    "elu": "v <= 0 ? alpha * expm1S(v) : v",
    "gelu": "0.5S * v * erfcS(-0.70710678118654752440S * v)",
    "silu": "v / (1 + expS(-v))",
    "softplus": "(v <= 0 ? 0 : v) + log1pS(expS(-fabsS(v)))",
    "sigmoid": "1 / (1 + expS(-v))",
    "tanh": "tanhS(v)",
}
_PLAIN = ("relu", "leaky_relu", "dense", "standardize")  # they need no <math.h>
_WITH_ALPHA = ("leaky_relu", "elu")

_DENSE = """\
static inline void PREFIX_dense(int n, int m, const REAL *w, const REAL *b, const REAL *x, REAL *y)
{
    int i, j;

    for (j = 0; j < m; ++j) y[j] = b[j];
    for (i = 0; i < n; ++i) {
        const REAL v = x[i];

        for (j = 0; j < m; ++j) y[j] += v * *w++;
    }
}"""

_STANDARDIZE = """\
static inline void PREFIX_standardize(int n, const REAL *mean, const REAL *std, const REAL *x, REAL *y)
{
    int i;

    for (i = 0; i < n; ++i) y[i] = (x[i] - mean[i]) / std[i];
}"""

_SOFTMAX = """\
static inline void PREFIX_softmax(int n, const REAL *x, REAL *y)
{
    REAL most = x[0], total = 0;
    int i;

    for (i = 1; i < n; ++i) most = x[i] <= most ? most : x[i];
    for (i = 0; i < n; ++i) {
        y[i] = expS(x[i] - most);
        total += y[i];
    }
    for (i = 0; i < n; ++i) y[i] /= total;
}"""

_EACH = """\
static inline void PREFIX_NAME(int n, ALPHAconst REAL *x, REAL *y)
{
    int i;

    for (i = 0; i < n; ++i) {
        const REAL v = x[i];

        y[i] = VALUE;
    }
}"""


def functions_for(kinds: Set[str], prefix: str, real: str) -> tuple[bool, list[list[str]]]:
    """Whether <math.h> is needed, and the functions of these kinds as lines of C, in a fixed order."""
    templates = {"dense": _DENSE, "standardize": _STANDARDIZE, "softmax": _SOFTMAX}
    for name, value in _ELEMENTWISE.items():
        text = _EACH.replace("NAME", name).replace("VALUE", value)
        templates[name] = text.replace("ALPHA", "REAL alpha, " if name in _WITH_ALPHA else "")
    chosen = [text for name, text in templates.items() if name in kinds]
    return bool(kinds - set(_PLAIN)), [_filled(text, prefix, real).split("\n") for text in chosen]


def _filled(text: str, prefix: str, real: str) -> str:
    suffix = "f" if real == "float" else ""
    for name in ("expm1", "erfc", "exp", "log1p", "fabs", "tanh"):
        text = text.replace(f"{name}S(", f"{name}{suffix}(")
    for constant in ("0.5", "0.70710678118654752440"):
        text = text.replace(f"{constant}S ", f"{constant}{suffix} ")
    return text.replace("REAL", real).replace("PREFIX", prefix)
