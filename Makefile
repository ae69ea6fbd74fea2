# The commands of the project: `make demo` and `make test` work from a fresh clone.
# PYTHON picks the interpreter that the virtual environment is made from.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup demo test lint types weights clean

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install the pinned dependencies

demo: setup weights ## caption a recording with and without a glossary
	@$(BIN)/a2p demo

test: setup ## run all tests that need no GPU
	@scripts/setup-system
	@scripts/setup-deepgram4 $(BIN)/python
	@$(MAKE) --no-print-directory weights
	@$(BIN)/python -m pytest -m "not gpu"

lint: setup ## style and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## static types
	@$(BIN)/mypy

weights: setup
	@$(BIN)/a2p models pull whisper-base

clean: ## remove the virtual environment and the caches
	rm -rf .venv .venv-deepgram4 .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The stamp is written last, so an interrupted installation is taken up again.
$(STAMP): pyproject.toml constraints.txt scripts/create-venv
	@scripts/create-venv "$(PYTHON)"
	@$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	@echo "Installing the pinned dependencies into .venv (a few minutes the first time) ..."
	@PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --progress-bar on \
		--editable '.[train,test,dev]'
	@touch $@
