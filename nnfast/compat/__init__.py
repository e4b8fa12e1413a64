"""Other people's names on top of this library, so that their programs run after a change of the import.

`nnfast.compat.nnfs`: the classes and functions of the "Neural Networks from Scratch" book.
"""
