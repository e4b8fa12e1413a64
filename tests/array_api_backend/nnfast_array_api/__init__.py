"""A backend for nnfast from outside of it: every op once, in what the Python array API standard (2023.12) has.

nnfast parity --backend array-api
nnfast.Model(..., backend="array-api")
"""

from .backend import KERNELS, ArrayAPIBackend

__all__ = ["KERNELS", "ArrayAPIBackend"]
