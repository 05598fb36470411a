# Everything runs in .venv, which the first target that needs it sets up; python3.11 (or newer), pip, gcc
# and make are all that the machine must have.

PYTHON := $(or $(shell command -v python3.11 2>/dev/null),$(shell command -v python3 2>/dev/null))
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)
# The tests already run JOBS processes at once: one thread each keeps them from fighting over the cores.
PYTEST := TVM_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist=worksteal

# What the environment may hold for the sake of other programs would change what is imported, checked or tested.
unexport PYTHONDEVMODE PYTHONHOME PYTHONOPTIMIZE PYTHONPATH PYTHONSAFEPATH PYTHONSTARTUP PYTHONWARNINGS
unexport MYPYPATH PYTEST_ADDOPTS PYTEST_PLUGINS
unexport $(filter-out TVM_NUM_THREADS,$(filter TVM_%,$(.VARIABLES)))
unexport RELAXC_RPC_SECRET RELAXC_TVM_RUNTIME

.PHONY: help demo test lint types imports unit-tests test-kernels test-models test-ray conformance conformance-sample \
        fuzz fuzz-files bench bench-targets format clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo         compile a text recogniser, read a line of text with it, time it'
	@echo 'make test         lint, types, import rules, all tests but the whole models, a sample of conformance'
	@echo 'make test-kernels 200 random workloads for every family of kernels against NumPy'
	@echo 'make test-models  whole real models and full-size architectures against ONNX Runtime'
	@echo 'make test-ray     tuning on a Ray cluster of two local nodes'
	@echo 'make conformance  onnx'"'"'s whole backend suite; writes docs/operators.md'
	@echo 'make fuzz         random models of NNSmith against ONNX Runtime (FUZZ_MODELS=1000 FUZZ_SEED=0 FUZZ_NODES=10)'
	@echo 'make fuzz-files   broken copies of real files (FUZZ_FILES=1000)'
	@echo 'make bench        latency and start-up time beside ONNX Runtime and OpenVINO'
	@echo 'make bench-targets  whole models on AVX2 beside AVX-512'
	@echo 'make format       format the code'
	@echo 'make clean        remove what the other targets made'

demo: $(VENV)/.installed-demo
	$(BIN)/relaxc demo --output build

test: lint types imports unit-tests conformance-sample

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test $(VENV)/typing/relaxc
	$(BIN)/mypy

imports: $(VENV)/.installed-test
	$(BIN)/lint-imports

unit-tests: $(VENV)/.installed-test
	$(PYTEST)

test-kernels: $(VENV)/.installed-test
	RELAXC_WORKLOADS=200 $(PYTEST) tests/targets

test-models: $(VENV)/.installed-test
	$(PYTEST) -m models tests/models

test-ray: $(VENV)/.installed-test $(VENV)/.installed-ray
	TVM_NUM_THREADS=1 $(BIN)/python -m pytest -m ray tests/autotune

conformance: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.conformance --jobs $(JOBS) --peer onnxruntime

conformance-sample: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.conformance --jobs $(JOBS) --sample

# NNSmith needs PyTorch, which nothing else does: it has an environment of its own, and hands over files.
FUZZ_VENV   := .venv-nnsmith
FUZZ_MODELS ?= 1000
FUZZ_SEED   ?= 0
FUZZ_NODES  ?= 10
FUZZ_FILES  ?= 1000

fuzz: $(VENV)/.installed-test $(FUZZ_VENV)/.installed
	TVM_NUM_THREADS=1 $(BIN)/python -m benchmarks.fuzz --jobs $(JOBS) models --python $(FUZZ_VENV)/bin/python \
	    --count $(FUZZ_MODELS) --seed $(FUZZ_SEED) --nodes $(FUZZ_NODES)

fuzz-files: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.fuzz --jobs $(JOBS) files --count $(FUZZ_FILES) --seed $(FUZZ_SEED)

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.end_to_end
	$(BIN)/python -m benchmarks.cpu

bench-targets: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.targets

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(FUZZ_VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of optional dependencies; a changed pyproject.toml installs anew.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

# The exporter that NNSmith calls may leave torch with any version: this one still has it.
$(FUZZ_VENV)/.installed:
	'$(PYTHON)' -m venv $(FUZZ_VENV)
	$(FUZZ_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	    torch==2.13.0 'nnsmith[onnx]==0.1.0' onnxscript
	@touch $@

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'relaxc needs Python 3.11 or newer: no python3 on the PATH' >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "relaxc needs Python 3.11 or newer: $$('$(PYTHON)' --version) found" >&2; exit 1; }
	'$(PYTHON)' -m venv $(VENV)

# The root folder is the package, whatever the checkout is called: mypy finds it by its name through this link.
$(VENV)/typing/relaxc: | $(BIN)/python
	mkdir -p $(@D)
	ln -sfn ../.. $@
