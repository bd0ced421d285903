# SPDX-License-Identifier: GPL-2.0-only
# Options for pytest go into ARGS: make prove ARGS="--trampoline PATH/contract.toml".

PYTHON := .venv/bin/python
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup prove certify test nightly lint bench lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s  %s\n", $$1, $$2 }' Makefile

setup: ## install what is missing (the other commands do this first)
	@.ci/setup

prove: setup ## prove the shipped trampolines with two solvers, replay, find safe sets, report
	@$(PYTHON) -m pytest proofs/ -q -n auto --safe-sets --second-solver $(ARGS)

certify: ## prove hand-off, identity map and frame with proofs that a verified checker accepts
	@.ci/setup certify
	@$(PYTHON) -m proofs.certify $(ARGS)

test: lint ## lint, run the tests, and prove the shipped trampolines with two solvers
	@.ci/setup tests
	@$(PYTHON) -m pytest tests/ -n auto --dist loadfile $(ARGS)
	@$(PYTHON) -m pytest proofs/ -q -n auto --second-solver

nightly: ## everything at full depth, resumable: proofs, and the checks on the suite itself
	@.ci/setup certify
	@$(PYTHON) -m proofs.nightly $(ARGS)

lint: setup ## check style and types
	@$(PYTHON) -m ruff check --quiet
	@$(PYTHON) -m ruff format --check --quiet
	@$(PYTHON) -m mypy --no-error-summary

bench: setup ## measure: execution, obligations, replay, and stock angr beside them
	@$(PYTHON) -m harness.bench

lock: setup ## resolve pyproject.toml into requirements.lock
	@.ci/lock

clean: ## remove all that the other commands made, .venv included
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache reports/out
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
