# Two commands do everything on a fresh machine: `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Written last by `install`: an environment without it is half-made and is repaired.
STAMP := $(VENV)/.installed

export KEDRO_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export PYTHONWARNINGS ?= ignore
# Without bytecode every start of Python reads half a minute of sources.
unexport PYTHONDONTWRITEBYTECODE
# kedro-viz and mlflow start programs of their own, found by name.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: help install demo test notebooks docs lint format viz mlflow lock bench clean

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## create or repair the environment in .venv

# pip works everywhere but is slow and may be set up with a CPU-only torch; uv resolves matching builds.
$(STAMP): pyproject.toml requirements.lock
	@rm -f $(STAMP)
	@$(BIN)/python -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null \
		|| { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; }
	$(BIN)/python -m uv pip install --python $(BIN)/python --quiet --constraint requirements.lock --editable '.[dev,cluster]'
	@touch $(STAMP)

demo: install  ## run every stage on the bundled photos and print the ablation table
	$(BIN)/kedro run
	@$(BIN)/kedro ablation

test: install  ## run the tests
	$(BIN)/python -m pytest

notebooks: install  ## execute the notebooks on the results of the demo
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=300 notebooks

lint: install  ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install  ## apply style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

viz: install  ## open the pipeline graph in the browser
	$(BIN)/kedro viz run

mlflow: install  ## serve the experiments for the browser
	@echo "open http://127.0.0.1:5000/?workflowType=machine_learning#/experiments/1?workflowType=machine_learning"
	$(BIN)/kedro mlflow ui

docs: install  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

lock:  ## resolve requirements.lock anew (name==version lines only)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile --quiet --upgrade --python-version 3.11 --all-extras --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links pyproject.toml --output-file requirements.lock

bench: install  ## time the engines; results are explained in docs/benchmarks.md
	$(BIN)/python -m benchmarks

clean:  ## remove everything that was computed (the bundled photos stay)
	git clean -fdXq data
