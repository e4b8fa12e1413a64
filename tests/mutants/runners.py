"""Runners that walk a step wrongly: each is the walk over the example backend's kernels with one fault."""

from __future__ import annotations

from . import loaded

__all__ = ["RUNNERS", "with_runner"]


def with_runner(fault):
    """The example backend, with a runner of the class that `fault` makes of the right one."""
    package = loaded()

    class Wrong(package.ArrayAPIBackend):
        def compile(self, program):
            right = super().compile(program)
            return fault(type(right))(program, self)

    return Wrong()


def skips_the_short_batch(base):
    class Runner(base):
        def _take(self, job, arrays, rows, out, sums):
            super()._take(job, arrays, rows, out, sums)
            self.short = out.stop - out.start < job.batch_size

        def _step(self, *step):
            return True if self.short else super()._step(*step)

    return Runner


def finds_all_finite(base):
    class Runner(base):
        def run(self, job):
            result = super().run(job)
            result.nonfinite = -1
            return result

    return Runner


def ignores_the_order(base):
    class Runner(base):
        def _take(self, job, arrays, rows, out, sums):
            super()._take(job, arrays, out, out, sums)

    return Runner


def _reordered(key):
    """The same ops, sorted by `key(op)`; equal ones keep their order."""

    def fault(base):
        class Runner(base):
            def __init__(self, program, backend):
                super().__init__(program, backend)
                pairs = sorted(zip(program.ops, self._plan, strict=True), key=lambda pair: key(pair[0]))
                self._plan = [entry for _, entry in pairs]

        return Runner

    return fault


def _without(op):
    """All ops but this one."""

    def fault(base):
        class Runner(base):
            def __init__(self, program, backend):
                super().__init__(program, backend)
                kept = [i for i, row in enumerate(program.ops) if row.name != op]
                self._update_at = sum(i < self._update_at for i in kept)
                self._plan = [self._plan[i] for i in kept]

        return Runner

    return fault


def _with_numbers(**wrong):
    """These numbers of a step are taken from `wrong[name](job)`."""

    def fault(base):
        class Runner(base):
            def _step(self, job, arrays, scalars, sums):
                return super()._step(job, arrays, scalars | {name: f(job) for name, f in wrong.items()}, sums)

        return Runner

    return fault


def _with_job(**wrong):
    """These members of the job are taken from `wrong[name](job)` while it runs."""

    def fault(base):
        class Runner(base):
            def run(self, job):
                right = {name: getattr(job, name) for name in wrong}
                for name, f in wrong.items():
                    setattr(job, name, f(job))
                try:
                    return super().run(job)
                finally:
                    for name, value in right.items():
                        setattr(job, name, value)

        return Runner

    return fault


def _first_rate(job):
    return 0.0 if job.learning_rates is None else job.learning_rates[0]


RUNNERS = {
    "skips the last, short batch": skips_the_short_batch,
    "finds everything finite": finds_all_finite,
    "ignores the order of the rows": ignores_the_order,
    "updates before it clips": _reordered(lambda op: op.name == "clip_by_global_norm"),
    "metrics before the forward pass": _reordered(lambda op: op.name not in ("accuracy", "r2_moments")),
    "leaves out the penalty": _without("penalty"),
    "leaves out dropout": _without("dropout"),
    "leaves out clipping": _without("clip_by_global_norm"),
    "keeps the first learning rate": _with_numbers(learning_rate=_first_rate),
    "keeps the first step number": _with_numbers(step=lambda job: job.first_step),
    "drops by another key": _with_numbers(key=lambda job: 0),
    "divides by the usual batch": _with_numbers(normaliser=lambda job: float(job.batch_size or job.x.shape[0])),
    "numbers all rows from the first": _with_numbers(first_row=lambda job: 0),
    "ignores sample weights": _with_job(sample_weight=lambda job: None),
    "begins with the first batch": _with_job(first_batch=lambda job: 0),
    "never shows the gradients": _with_job(on_gradients=lambda job: None),
}
