# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Where pip finds torch; on a machine without an NVIDIA card this saves 5 GB:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

.PHONY: demo test test-slow gpu lint types docs check clean

demo: $(BIN)/passerby
	$(BIN)/passerby demo --out demo

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist loadfile -m "not slow"

# Servers, clusters, killed processes and sweeps over all methods, which `make test` has only one example of
test-slow: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist loadfile -m slow

# On a machine with an NVIDIA GPU, network or not: the tests that need one, and a table of CPU against GPU in gpu.md
gpu: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/gpu.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --strict --clean 2> site.log || { cat site.log; exit 1; }
	@! grep griffe: site.log || { echo "docstrings above do not fit their signatures"; exit 1; }
	@rm site.log; echo "open site/index.html in a browser"

check: lint types test test-slow docs

$(BIN)/passerby: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "passerby needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/pip install --quiet torch torchvision --index-url $(TORCH_INDEX))
	@echo "installing; torch is large, this takes some minutes"
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(BIN)/passerby
	$(BIN)/pip install --quiet --editable ".[dev]"
	@touch $@

$(VENV)/.docs: $(BIN)/passerby
	$(BIN)/pip install --quiet --editable ".[docs]"
	@touch $@

clean:
	rm -rf $(VENV) demo site docs/generated
