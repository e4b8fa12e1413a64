"""Population: n models of one structure that are trained, measured and asked together.

It owns the rows of numbers (`members.py`) and what differs between models (`varying.py`); `fit.py` drives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from nnfast.errors import DTypeError, OptionError, StateError
from nnfast.population import answers
from nnfast.population.history import PopulationHistory
from nnfast.population.members import Members
from nnfast.population.varying import Varying, n_values
from nnfast.protocol import Backend
from nnfast.random import as_rng
from nnfast.registry import get_backend
from nnfast.validation import integer

if TYPE_CHECKING:
    from nnfast.model import Model
    from nnfast.population.answers import Ensemble
    from nnfast.program import Program
    from nnfast.protocol import Runner

__all__ = ["Population"]

Array = np.ndarray[Any, Any]


class Population:
    """n networks of one structure, each with its own weights, seed and settings, trained in one go.

        population = nn.Population(build, 256, vary={"learning_rate": np.geomspace(1e-4, 0.1, 256)}, rng=0)
        population.fit(X, y, epochs=100, batch_size=64)
        model = population.best()

    build     a function without arguments that returns an `nn.Model`: the pattern of all. Its weights are not used, but
              for layers whose values were given before
    n         how many models
    vary      {name: n values}. Names are "rng" (seeds), "learning_rate" (numbers or schedules), "decay", "clip_norm",
              the optimizer's other numbers ("momentum", "beta_1", "weight_decay", …), those of the loss
              ("label_smoothing", …), "weight_l1", "weight_l2", "bias_l1", "bias_l2" (of all Dense layers), "dropout"
              (the rate of all Dropout layers) and the numbers of other layers ("alpha"). Whatever changes the structure
              cannot vary
    backend   as for `Model`; None is that of the pattern
    rng       draws a seed for each model where `vary` names none; they are in `values["rng"]`

    Model k has the bits of `Model(…, rng=seed)` with the same settings, trained alone by one thread on that backend. On
    Numba the models are spread over the cores, inside compiled code; on a GPU all step together; elsewhere they are
    trained one after the other. Layers, losses and metrics in plain Python have objects of their own to remember things
    in, and are refused.
    Raises DTypeError, OptionError or UnknownNameError for what cannot vary.
    """

    def __init__(
        self,
        build: Callable[[], Model],
        n: int,
        vary: Mapping[str, Sequence[Any]] | None = None,
        *,
        backend: str | Backend | None = None,
        rng: Any = None,
    ) -> None:
        n = integer("n", n, 1)
        if vary is not None and not isinstance(vary, Mapping):
            raise DTypeError(f"vary is {vary!r:.100}; expected a dictionary of names, with {n} values for each")
        pattern = _built(build)
        given = [layer._was_given for layer in pattern.layers]
        if backend is not None and get_backend(backend) is not pattern.backend:
            pattern = pattern.to(backend=backend)
        self._begin(pattern, n)
        self._seeds: tuple[Any, ...]
        named = dict(vary or {})
        if "rng" in named:
            self._seeds = n_values("rng", named.pop("rng"), n)
        else:
            source = as_rng(rng)
            self._seeds = tuple(int.from_bytes(source.bytes(4), "little") for _ in range(n))
        self._varying.use({name: self._varying.checked(name, values) for name, values in named.items()})
        self._members.draw(self._seeds, given)

    def _begin(self, pattern: Model, n: int) -> None:
        self._pattern, self._members, self._varying = pattern, Members(pattern, n), Varying(pattern, n)
        self._session: Callable[[], dict[str, Any]] | None = None  # while it is being fitted: what to write down
        self.history = PopulationHistory((), n)  # of the last fit, also of one that ended in an error

    # ---- parts ------------------------------------------------------------------------------------------------------

    @property
    def n(self) -> int:
        """How many models."""
        return self._members.n

    @property
    def pattern(self) -> Model:
        """The model that `build` returned. What does not vary is as here; its weights belong to no model."""
        return self._pattern

    @property
    def backend(self) -> Backend:
        return self._pattern.backend

    @property
    def values(self) -> Mapping[str, tuple[Any, ...]]:
        """What varies: a value per model by name, "rng" included."""
        return MappingProxyType({"rng": self._seeds, **self._varying.values})

    def set(self, name: str, values: Sequence[Any]) -> None:
        """Give the models other values of a setting from the next step on; `name` as in `vary`, but for "rng"."""
        if isinstance(name, str) and name == "rng":
            raise OptionError("the seeds are drawn from when a population is made; make another one")
        self._varying.use(self._varying.values | {name: self._varying.checked(name, values)})

    @property
    def parameters(self) -> Array:
        """(n, size): the flat parameters of each model, as in `Model.parameters`. On a GPU: a copy on the host."""
        return np.asarray(self.backend.to_numpy(self._members.buffers.parameters))

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, k: int) -> Model:
        """Model k as an `nn.Model` of its own: a copy with its weights, optimizer state, settings and seed."""
        k = _place(k, self.n)
        made = self._members.model(k, self._varying)
        if k < len(self.history):
            made.history = self.history[k]
        return made

    def __iter__(self) -> Iterator[Model]:
        return (self[k] for k in range(self.n))

    @property
    def models(self) -> list[Model]:
        """All of them, as by `population[k]`."""
        return list(self)

    # ---- training and asking ----------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        epochs: int = 1,
        batch_size: int | None = None,
        shuffle: bool = True,
        verbose: int = 1,
        sample_weight: Any = None,
        validation_data: Any = None,
        validation_every: int = 1,
        callbacks: Iterable[Any] = (),
        resume: Any = None,
    ) -> PopulationHistory:
        """Train every model `epochs` more epochs from its present state; returns the PopulationHistory.

        X (N, n_inputs) and y as `Model.fit` takes them are shared, in an order of its own for each model where they are
        shuffled. X (n, N, n_inputs), y (n, N) or (n, N, n_outputs) and sample_weight (n, N) are each model's own. So
        with `validation_data`, (X, y) or (X, y, sample_weight), measured every `validation_every` epochs.

        callbacks   `nn.EarlyStopping`, which stops each model by itself, and one that has stopped costs nothing more;
                    `nn.ModelCheckpoint(path, every=…)`, which writes the population; and functions
                    f(population, epoch, logs), where logs[name] is an array (n,): the answer True stops all
        resume      a file of ModelCheckpoint, or of `save` in a callback: go on as if never interrupted, bit for bit
        verbose     0 silent, 1 progress, 2 a line per epoch

        Ctrl-C raises KeyboardInterrupt between two jobs; the population is usable and its history complete up to there.
        Raises an error of `nnfast.errors` before anything changes.
        """
        given = {name: value for name, value in locals().items() if name not in ("self", "X", "y")}
        from nnfast.population import fit as training

        with self._pattern._programs.fitting():
            return training.fit(self, X, y, given)

    def evaluate(self, X: Any, y: Any, *, batch_size: int | None = None, sample_weight: Any = None) -> dict[str, Array]:
        """Loss and metrics of every model, arrays (n,) by name, as `Model.evaluate`; data as for `fit`."""
        return answers.evaluate(self, X, y, batch_size, sample_weight)

    def predict(self, X: Any, batch_size: int | None = None, *, how: str = "all") -> Any:
        """What the models answer to X (N, n_inputs), or to rows of their own, X (n, N, n_inputs).

        how   "all"    (n, N, n_outputs), as `Model.predict` of each; with rows of their own the only one
              "mean"   (N, n_outputs): the mean over the models
              "vote"   (N,) class numbers: what most models answer, the smallest where votes are equal; with one output
                       of SigmoidBinaryCrossEntropy or BinaryCrossEntropy, 0 or 1
              "best"   (N, n_outputs): of `best()`
        """
        return answers.predict(self, X, batch_size, how)

    def scores(self, name: str | None = None) -> Array:
        """(n,): what was last measured of each model in training under this name; by default val_loss, else loss.

        Where early stopping has put the best weights back, what was measured of these.
        """
        if not self.history.history:
            raise StateError("nothing is measured yet: call population.fit(…) first, or evaluate")
        return self.history.at_end(self._watched(name))

    def ranking(self, name: str | None = None, mode: str = "auto") -> list[int]:
        """The numbers of the models, the best first; those without a finite score last."""
        name = self._watched(name)
        scores = self.scores(name) * self.history.sign(name, mode)
        return np.argsort(np.where(np.isfinite(scores), scores, np.inf), kind="stable").tolist()  # type: ignore[no-any-return]

    def _watched(self, name: str | None) -> str:
        return name if name is not None else "val_loss" if "val_loss" in self.history.history else "loss"

    def best(self, name: str | None = None, mode: str = "auto") -> Model:
        """The model with the best score, the first of equals, as `population[k]` gives it."""
        return self[self.ranking(name, mode)[0]]

    def ensemble(self, how: str = "mean", models: Any = None) -> Ensemble:
        """Several models that answer as one: all, or the `models` best of them, or those in a list of numbers."""
        return answers.ensemble(self, how, models)

    def subset(self, models: Sequence[int]) -> Population:
        """A population of copies of these models. Raises IndexError for a number that none has."""
        chosen = self._places(models)
        made: Population = type(self).__new__(type(self))
        made._begin(self._pattern.to(), len(chosen))
        made._members = self._members.subset(chosen, made._pattern)
        made._varying.use({name: tuple(v[k] for k in chosen) for name, v in self._varying.values.items()})
        made._seeds = tuple(self._seeds[k] for k in chosen)
        if len(self.history):
            made.history = self.history.subset(chosen)
        return made

    def _places(self, models: Any) -> list[int]:
        if isinstance(models, str | bytes | Mapping | type) or not hasattr(models, "__iter__") or np.ndim(models) != 1:
            raise DTypeError(f"models is {models!r:.100}; expected a list of numbers of models")
        chosen = [_place(k, self.n) for k in models]
        if not chosen:
            raise OptionError("models is empty; a population has at least one")
        return chosen

    # ---- files and pictures -----------------------------------------------------------------------------------------

    def save(self, path: Any) -> None:
        """Write the whole population into one file: weights, optimizer state, seeds, counters, settings, history.

        In the layout of safetensors, each array with an axis of models before, written in one step; see `Model.save`.
        """
        from nnfast.storage import populations

        populations.save(self, path, None if self._session is None else self._session())

    @staticmethod
    def load(path: Any, *, backend: str | Backend | None = None, custom: Any = None) -> Population:
        """The population of a file that `save` wrote; on the same backend its training goes on with the same bits.

        `custom` as for `nn.load`. Raises CheckpointError.
        """
        from nnfast.storage import populations

        return populations.load(path, backend, custom)

    def plot(self, name: str, **options: Any) -> Any:
        """Draw the score of each model over what varies, `name`; see `nnfast.plots.population`."""
        from nnfast import plots

        return plots.population(self, name, **options)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_session": None}

    # ---- programs ---------------------------------------------------------------------------------------------------

    def _runner(self, mode: str) -> tuple[Program, Runner]:
        program, runner = self._pattern._programs.runner(mode)
        cut = next((op for op in program.ops if op.name == "python"), None)
        if cut is not None:
            raise OptionError(
                "a population has no layers, losses or metrics in plain Python: these remember what belongs to one "
                "model. Register an op (nn.register_op), or train such models one by one"
            )
        self._members.make_room(program)
        return program, runner

    def __repr__(self) -> str:
        varied = ", ".join(self._varying.values) or "the seed alone"
        return f"<Population of {self.n} models on {self.backend.name}; varies: {varied}>"


def _built(build: Any) -> Model:
    from nnfast.model import Model

    if not callable(build) or isinstance(build, Model):
        raise DTypeError(f"build is {build!r:.100}; expected a function that returns a new nn.Model")
    made = build()
    if not isinstance(made, Model):
        raise DTypeError(f"build() returned {made!r:.100}; expected an nn.Model")
    return made


def _place(k: Any, n: int) -> int:
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise DTypeError(f"a model is named by its number, 0 to {n - 1}; {k!r} was given")
    if not -n <= k < n:
        raise IndexError(f"there are {n} models, 0 to {n - 1}; {k} was given")
    return int(k) % n
