# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo-out
WORKERS ?= 2

.PHONY: demo test setup lint types layers tests bench clean

demo: $(READY)
	$(BIN)/hybrid demo --out $(OUT)

test: lint types layers tests

setup: $(READY)

# torch first and alone: an open requirement would pull its CUDA build of several GB.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

# By WORKERS processes at once; each takes tests from the other's end when it has done its own.
tests: $(READY)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

bench: $(READY)
	$(BIN)/python -m bench.latency.index

clean:
	rm -rf $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
