# Two commands do all the set-up: `make run` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
KILLS ?= 20
ORIGINALS ?= keep
# Many tests wait for processes that start: three workers keep two cores busy.
WORKERS ?= 3
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Where there is a wheel of it; elsewhere the tests that need a real Triton say that they are left out.
TRITON := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),.venv-triton-server/.installed)
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url

.PHONY: help run demo test test-deep test-export check proto bench faults model-export lock format

help:  ## This list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: .venv/.installed  ## Start Lares with a PostgreSQL and a Kafka of its own.
	@exec $(BIN)/lares up

demo: .venv/.installed  ## Put sample photos into a camera's folder of the running Lares, show the events.
	@exec $(BIN)/lares demo

test: .venv/.installed $(TRITON)  ## Every test, on a real Kafka and a real PostgreSQL.
	$(PYTEST)

test-deep: .venv/.installed $(TRITON)  ## Every test in random order, property tests with random and more examples; then `make faults`.
	$(PYTEST) -p pytest_randomly --randomly-dont-reset-seed --hypothesis-profile=deep
	$(MAKE) faults

check: .venv/.installed proto/third_party/.fetched  ## Format, lint, types, package rules, contracts, pages.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code --path proto/lares
	proto/generate.sh build/gen && diff -r --exclude=__pycache__ build/gen proto/gen
	$(BIN)/python -m deploy.contracts --check
	$(BIN)/python -m deploy.pages --check

proto: .venv/.installed proto/third_party/.fetched  ## Write proto/gen anew from the contracts, and their image.
	proto/generate.sh proto/gen
	$(BIN)/python -m deploy.contracts

bench: .venv/.installed  ## Every speed, as a ratio to a peer or a limit of the same run.
	$(BIN)/python -m tests.bench

faults: .venv/.installed  ## Kill Lares KILLS times at random and compare with a run without faults.
	$(BIN)/python -m tests.faults --kills $(KILLS) --originals $(ORIGINALS)

# FROM: a folder or a model's id on the hub; OUT: a new folder; NAME, if wanted. docs/models.md
model-export: .venv/.installed .venv-export/.installed  ## A trained RT-DETRv2 as a model repository for Triton: FROM=... OUT=...
	@test -n "$(FROM)" -a -n "$(OUT)" || { echo "say FROM=folder-or-id and OUT=new-folder" >&2; exit 2; }
	$(BIN)/lares model export --from "$(FROM)" --out "$(OUT)" $(if $(NAME),--name "$(NAME)")

test-export: .venv/.installed .venv-export/.installed  ## The export, where torch is: makes the tests' tiny model anew and compares.
	$(BIN)/pytest -rP tests/export

lock: .venv/.installed  ## Resolve the lock files anew.
	$(COMPILE) --all-extras pyproject.toml -o requirements.lock
	$(COMPILE) -c requirements.lock --group dev -o requirements-dev.lock
	$(COMPILE) --group triton-server -o requirements-triton-server.lock
	$(COMPILE) --group export --override <(printf "%s; sys_platform == 'never'\n" triton nvidia-cusolver) -o requirements-export.lock

format: .venv/.installed  ## Format, and mend what ruff can mend.
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .
	$(BIN)/python -m deploy.pages

# Compiled here, once: a third of a start, where Python may not keep the bytecode of what it reads.
.venv/.installed: requirements-bootstrap.lock requirements.lock requirements-dev.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements-bootstrap.lock requirements.lock requirements-dev.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# torch is large (3.9 GB) and only the export needs it.
.venv-export/.installed: requirements-export.lock | .venv/.installed
	test -x .venv-export/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-export
	$(BIN)/uv pip sync --quiet --python .venv-export/bin/python --require-hashes requirements-export.lock
	touch $@

.venv-triton-server/.installed: requirements-triton-server.lock .venv/.installed
	test -x .venv-triton-server/bin/python || $(BIN)/python -m venv --without-pip .venv-triton-server
	$(BIN)/uv pip sync --quiet --python .venv-triton-server/bin/python --require-hashes requirements-triton-server.lock
	touch $@

proto/third_party/.fetched: proto/third_party.lock .venv/.installed
	$(BIN)/python proto/third_party.py
	touch $@
