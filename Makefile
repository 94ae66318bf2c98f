VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin

.PHONY: help demo test bench scenes lint format zoo clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# One stamp per environment: it is made again only when the project's needs change.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed ## set everything up and explain the sample images into camcli-out/
	$(BIN)/camcli explain sample_images --method gradcam --method gradcam++ --method guided

# Two processes of one thread each are quicker than threads that wait for each other.
test: $(VENV)/.installed ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

# The other libraries bring packages that nothing else here should see.
.venv-bench/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --upgrade pip
	.venv-bench/bin/python -m pip install --quiet --editable '.[bench]'
	@touch $@

bench: .venv-bench/.installed ## speed beside the forward pass and other libraries, into bench.json
	.venv-bench/bin/python -m tests.bench $(SECTIONS)

scenes: $(VENV)/.installed ## train networks on scenes and measure where their maps point
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.scenes --keep camcli-out/scenes

lint: $(VENV)/.installed ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

zoo: $(VENV)/.installed ## write down what torchvision's networks are, for a new torchvision
	$(BIN)/python -W ignore -m camcli.engine.catalogue > camcli/assets/zoo.json.new
	mv camcli/assets/zoo.json.new camcli/assets/zoo.json

clean: ## remove the environment and what was made
	rm -rf $(VENV) .venv-bench build *.egg-info camcli-out
