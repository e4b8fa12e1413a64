"""Pictures of a training and of what came of it, with matplotlib (`pip install 'nnfast[plot]'`).

    history.plot()                        loss, metrics and learning rate over the epochs
    model.plot_decision_regions(X, y)     what a classifier of two inputs answers where
    model.plot_fit(X, y)                  the curve of a model of one input through its data
    plots.confusion_matrix(output, y)     which class was taken for which
    population.plot("learning_rate")      how good each model of a population is, over what varies

Each returns a matplotlib Figure, which a notebook shows by itself, and writes it where `file=` names one: `.png`,
`.pdf`, `.svg`. With `figure=`, a Figure or a SubFigure, it draws there instead, so several go on one page. `size` is
(width, height) in inches. Neither pyplot nor the user's settings are touched.
"""

from nnfast.pictures.answers import confusion_matrix, decision_regions, fit
from nnfast.pictures.population import population
from nnfast.pictures.training import history

__all__ = ["confusion_matrix", "decision_regions", "fit", "history", "population"]
