# Two commands do all the set-up: `make run` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
KILLS ?= 20
ROUNDS ?= 40
ORIGINALS ?= keep
CHANNELS ?= in-process socket
# Many tests wait for processes to start, so three workers keep two cores busy.
WORKERS ?= 3
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Triton's server has a wheel for this platform only. On others, tests that need it are skipped with a reason.
TRITON := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),.venv-triton-server/.installed)
IMAGES := gateway store reason ingest detect all-in-one ingest-clips detect-clips all-in-one-clips
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url

.PHONY: help run demo test test-deep test-export check proto bench judge faults kills model-export lock lock-images format images test-images

help:  ## Print this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: .venv/.installed  ## Start Lares with its own PostgreSQL and Kafka.
	@exec $(BIN)/lares up

demo: .venv/.installed  ## Put sample photos and a clip into folders of the running Lares and print the events.
	@exec $(BIN)/lares demo

test: .venv/.installed $(TRITON)  ## Run every test, on a real Kafka and a real PostgreSQL.
	$(PYTEST)

test-deep: .venv/.installed $(TRITON)  ## Run every test in random order, with random and more examples, then the kill run and the fault run.
	$(PYTEST) -p pytest_randomly --randomly-dont-reset-seed --hypothesis-profile=deep
	$(MAKE) kills faults

check: .venv/.installed proto/third_party/.fetched  ## Check format, lint, types, package rules, names, contracts and pages.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m deploy.names
	$(BIN)/python -m deploy.images.licences
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code --path proto/lares
	proto/generate.sh build/gen && diff -r --exclude=__pycache__ build/gen proto/gen
	$(BIN)/python -m deploy.contracts --check
	$(BIN)/python -m deploy.pages --check
	$(BIN)/python -m deploy.dashboards --check

proto: .venv/.installed proto/third_party/.fetched  ## Regenerate proto/gen from the contracts, and write their image.
	proto/generate.sh proto/gen
	$(BIN)/python -m deploy.contracts

bench: .venv/.installed $(TRITON)  ## Measure speeds (MEASURES, or all) beside peers, limits and an earlier commit.
	$(BIN)/python -m tests.bench $(MEASURES)

judge: .venv/.installed  ## Score the labelled events: ARGS="--folds 5 --attacks --against FILE ..."
	$(BIN)/python -m tests.judge $(ARGS)

kills: .venv/.installed  ## Kill Lares KILLS times at random and compare the outcome with a run without kills.
	$(BIN)/python -m tests.kills --kills $(KILLS) --originals $(ORIGINALS) --channels $(CHANNELS)

# SEED repeats a run; ARGS: more options, such as --brokers 3, --blobs file, --detector triton, --reasoner llama.
faults: .venv/.installed  ## Run a cluster under faults for ROUNDS rounds and compare the outcome with a run without.
	$(BIN)/python -m tests.faults --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

# Needs docker, podman or buildah: docs/deploy.md.
images: .venv/.installed  ## Build the images (or some: ARGS="gateway store") and print their sizes.
	$(BIN)/python -m deploy.images.build $(ARGS)

test-images: .venv/.installed  ## Start the images that `make images` has built, and test them.
	$(BIN)/pytest -rP tests/images

# FROM: a folder or a model's id on the hub; OUT: a new folder; NAME: optional. See docs/models.md.
model-export: .venv/.installed .venv-export/.installed  ## Export a trained RT-DETRv2 as a Triton model repository: FROM=... OUT=...
	@test -n "$(FROM)" -a -n "$(OUT)" || { echo "usage: make model-export FROM=folder-or-id OUT=new-folder" >&2; exit 2; }
	$(BIN)/lares model export --from "$(FROM)" --out "$(OUT)" $(if $(NAME),--name "$(NAME)")

test-export: .venv/.installed .venv-export/.installed  ## Test the export: recreate the tests' tiny model and compare.
	$(BIN)/pytest -rP tests/export

lock: .venv/.installed  ## Resolve the lock files again.
	$(COMPILE) --all-extras pyproject.toml -o requirements.lock
	$(COMPILE) -c requirements.lock --group dev -o requirements-dev.lock
	$(COMPILE) --group triton-server -o requirements-triton-server.lock
	$(COMPILE) --group export --override <(printf "%s; sys_platform == 'never'\n" triton nvidia-cusolver) -o requirements-export.lock
	$(COMPILE) --group sbom -o requirements-sbom.lock
	$(MAKE) lock-images

lock-images: .venv/.installed  ## Resolve the lock files of the images, with the versions in requirements.lock.
	for image in $(IMAGES); do \
	  $(COMPILE) -c requirements.lock --extra $${image%-clips} $$([[ $$image == *-clips ]] && echo --extra clips) \
	    pyproject.toml -o deploy/images/locks/$$image.lock || exit 1; \
	done

format: .venv/.installed  ## Format, apply ruff's fixes and regenerate the pages.
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .
	$(BIN)/python -m deploy.pages
	$(BIN)/python -m deploy.dashboards

# Compiles the bytecode once: it is a third of a start where Python cannot write its cache.
.venv/.installed: requirements-bootstrap.lock requirements.lock requirements-dev.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements-bootstrap.lock requirements.lock requirements-dev.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# torch is large (3.9 GB), and only the export needs it.
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
