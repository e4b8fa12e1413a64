"""The same training by scikit-learn's estimator and by nnfast's, and a search that takes nnfast's."""

from __future__ import annotations

import os

import numpy as np
from sklearn import neural_network
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nnfast.sklearn import MLPClassifier, from_sklearn
from nnfast.text import table


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(images / 16, labels, stratify=labels, random_state=0)

    settings = {"hidden_layer_sizes": (64,), "tol": 1e-3, "random_state": 0}
    theirs = neural_network.MLPClassifier(**settings).fit(X, y)
    ours = MLPClassifier(**settings).fit(X, y)
    shown = [0, 9, 49, len(ours.loss_curve_) - 1]
    rows = [[str(e + 1), f"{theirs.loss_curve_[e]:.15f}", f"{ours.loss_curve_[e]:.15f}"] for e in shown]
    print(table(["epoch", "scikit-learn's loss", "nnfast's loss"], rows, right=(0, 1, 2)))
    print(f"both stop after epoch {theirs.n_iter_}: {theirs.n_iter_ == ours.n_iter_}")
    print(f"accuracy on other digits: {theirs.score(X_test, y_test):.4f} and {ours.score(X_test, y_test):.4f}")
    apart = np.abs(from_sklearn(theirs).predict_proba(X_test) - theirs.predict_proba(X_test)).max()
    print(f"from_sklearn: probabilities differ by less than 1e-12: {apart < 1e-12}")

    pipeline = make_pipeline(
        StandardScaler(), MLPClassifier(max_iter=40, tol=0, n_iter_no_change=np.inf, random_state=0)
    )
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__dropout": [0.0, 0.2]}
    search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(X, y)
    print(f"\nbest of a search over two processes: {search.best_params_}")
    print(f"accuracy on other digits: {search.score(X_test, y_test):.4f}")


if __name__ == "__main__":
    os.environ["PYTHONWARNINGS"] = "ignore"  # the processes of the search would say that 40 epochs are not enough
    main()
