VENV   ?= .venv
PYTHON ?= python3
DEVICE ?= cpu
BIN    := $(VENV)/bin

.PHONY: help demo test test-all test-gpu docs dist browser bench soak scenes audit-proof lint format zoo clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# The environment is updated when pyproject.toml has changed since it was made.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --quiet --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed ## set everything up and explain the sample images into camcli-out/
	$(BIN)/camcli explain sample_images --method gradcam --method gradcam++ --method guided

# Two processes with one thread each are faster than two threads, which wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

test: $(VENV)/.installed ## run the quick tests
	$(PYTEST) -m 'not (zoo or bench or scenes or browser)'

test-all: $(VENV)/.installed ## run all tests: also all networks, training, benchmarks and a browser
	$(PYTEST) -r s

test-gpu: $(VENV)/.installed ## run the tests that need a GPU; they are skipped without one
	$(BIN)/python -m pytest -r s -m gpu

docs: $(VENV)/.installed ## build the handbook as web pages in build/docs, and manual pages in docs/man
	$(BIN)/python docs/man.py docs/man
	$(BIN)/python -m sphinx --quiet -W -n --keep-going -d build/doctrees docs build/docs
	@cp build/docs/README.html build/docs/index.html
	@echo 'build/docs/index.html'

dist: $(VENV)/.installed ## build the wheel and the source archive in dist/, and check them
	rm -rf dist build/lib docs/man
	$(BIN)/python docs/man.py docs/man
	$(BIN)/python -m build >/dev/null
	$(BIN)/python -m twine check --strict dist/*
	@$(BIN)/python -m zipfile -l dist/*.whl | grep -q man1/camcli-explain.1
	@test -z "$$(find dist -size +4000k)" || (echo 'dist: expected files below 4 MB'; exit 1)

browser: ## install the browser for test-all, as root on Debian; its tests are skipped without it
	@if command -v chromedriver >/dev/null; then echo 'chromedriver is installed'; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver >/dev/null; \
	else echo 'no root or no apt-get: no browser is installed'; fi \
	|| echo 'the browser cannot be installed'

# The other libraries have their own environment, so that nothing else depends on their packages.
.venv-bench/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --quiet --upgrade pip
	.venv-bench/bin/python -m pip install --quiet --quiet --editable '.[bench]'
	@touch $@

bench: .venv-bench/.installed ## measure the speed, beside the forward pass and other libraries
	.venv-bench/bin/python -m tests.bench --device $(DEVICE) $(SECTIONS)

soak: $(VENV)/.installed ## a million records, damaged images and killed runs; takes hours
	$(BIN)/python -m tests.soak records
	$(BIN)/python -m tests.soak files
	$(BIN)/python -m tests.soak kills
	$(BIN)/python -m tests.soak nodes
	$(BIN)/python -m tests.soak tiny
	$(BIN)/python -m tests.soak lists --images 100000

scenes: $(VENV)/.installed ## train networks on drawn scenes and measure where maps point
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.scenes --keep camcli-out/scenes
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.scenes.tokens --keep camcli-out/tokens

audit-proof: $(VENV)/.installed ## train networks with planted shortcuts and measure which camcli audit finds
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.proof --keep camcli-out/audit-proof

lint: $(VENV)/.installed ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

zoo: $(VENV)/.installed ## update the facts and layers of torchvision's networks, for a new torchvision
	$(BIN)/python -W ignore -m camcli.engine.catalogue

clean: ## remove the environments and everything made
	rm -rf $(VENV) .venv-bench build dist *.egg-info camcli-out
