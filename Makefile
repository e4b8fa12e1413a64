# Needs Python 3.11 or newer and make, nothing else: everything is installed into .venv.
# Another Python: `make PYTHON=python3.13 demo`. More for pytest: `make test PYTEST_ARGS='-k registry -x'`.
# Tests run in two processes, since many of them wait for processes of their own: `make test WORKERS=0` uses none.
# With what the tests of the GPU backend can use, 700 MB more and no GPU: `make test EXTRAS=test,cuda-test`.

PYTHON ?= python3
EXTRAS ?= test
PYTEST_ARGS ?=
WORKERS ?= 2
BENCH_ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench bench-tables docs clean

help:
	@echo 'make demo    train on the digits, the spiral and the sine with every backend; draws nnfast-demo.png'
	@echo 'make test    everything the project checks: ruff, mypy, pytest'
	@echo 'make lint    ruff and mypy only'
	@echo 'make format  let ruff format and mend what it can'
	@echo 'make bench   time nnfast beside other libraries and the limits of this machine; BENCH_ARGS="--html FILE" and more'
	@echo 'make bench-tables  the same, and write bench/results/, and the tables of bench/README.md and README.md'
	@echo 'make docs    run the examples that docs/ shows, write what they print and draw there, and build the site into site/'
	@echo 'make clean   remove .venv and everything else that was built'

demo: .venv/.installed-demo
	@$(BIN)/python -m nnfast demo

test: lint
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: .venv/.installed-$(EXTRAS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/.installed-test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/.installed-bench
	$(BIN)/nnfast bench $(BENCH_ARGS)

bench-tables: .venv/.installed-bench
	$(BIN)/nnfast bench --json bench/results/cpu.json --html bench/results/cpu.html $(BENCH_ARGS)
	$(BIN)/python bench/report/summary.py bench/results/cpu.json

docs: .venv/.installed-docs
	$(BIN)/python docs/make.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

clean:
	rm -rf .venv build dist site *.egg-info nnfast-demo.png .hypothesis .mypy_cache .pytest_cache .ruff_cache .benchmarks
	find bench kernels nnfast tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second call quick; a change of pyproject.toml installs again.
.venv/.installed-%: .venv/.created pyproject.toml
	@echo 'Installing nnfast[$*] into .venv; the first time takes a minute or two ...'
	@$(PIP) install --editable '.[$*]'
	@touch $@

.venv/.created:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("nnfast needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.13")'
	@$(PYTHON) -m venv --clear .venv
	@touch $@

# make deletes intermediate files; the stamps must stay.
.PRECIOUS: .venv/.installed-%
