# One task runner. Each target is one step that also works by hand.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: setup check test system demo bench golden docs

setup: $(VENV)/.ready  ## a virtual environment with everything that development needs
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

check: setup  ## format, lint, types, import contracts, stale docs
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports && $(BIN)/python docs/reference.py --check

test: setup  ## the tests that need no network, each in seconds
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

system: setup  ## the slow tests: the whole line, faults, silence
	$(BIN)/python -m pytest -m "slow and not alone" -n auto --dist loadfile
	$(BIN)/python -m pytest -m "slow and alone"

demo: setup  ## the whole line on this machine, on real handwritten digits
	$(BIN)/edgeward demo

bench: setup  ## the measured claims
	$(BIN)/python -m pytest bench -q -s

golden: setup  ## make the golden bundles anew; review the difference like code
	$(BIN)/python tests/golden/make.py

docs: setup  ## write the generated pages anew
	$(BIN)/python docs/reference.py
