"""The reference programs, each a short lesson: `python -m nnfast.examples.NAME`, and the demo, `python -m nnfast demo`.

    losses          what a loss and an accuracy are, and what an untrained network answers
    random_search   learning without gradients, and where that ends
    optimizers      eight ways down the same slope
    regression      a sine, and how much the starting weights matter
    case_study      a linear classifier against a network of one hidden layer
    training        validation, early stopping, a schedule, and the pictures that one wants to see
    own_parts       a layer, a loss, a metric, a schedule in plain Python, and what they cost
    own_op          an op with its own compiled kernel, at full speed

`_common` reads the options and prints the tables, `_plots` draws.
"""
