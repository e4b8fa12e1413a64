"""The backends: one folder each, with the same file names, so that any op is found at the same place in all of them.

Installed as `nnfast.kernels` and imported under no other name; `nnfast` itself never imports it, the registry does by
name. Nothing in here validates, and `nnfast.protocol` is all that it takes from the library.
"""

if __name__ != "nnfast.kernels":
    raise ImportError(f"this is nnfast.kernels and cannot be imported as {__name__!r}; write `import nnfast.kernels`")
