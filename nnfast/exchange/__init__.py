"""Models to and from elsewhere: PyTorch, Keras, ONNX, C, and weights under PyTorch's names.

Exporters read a model as a `chain` of steps, importers put one together with `building`; each format is one module
that is loaded when it is used, by way of `readers`. NumPy is all that C and the names of weights need.
"""
