# make run      answer a question with a real model (Q="..." asks another one)
# make serve    start the OpenAI-compatible server
# make test     the gate (lint, types, layers) and the whole suite
# make test-engines   the engines that have environments of their own, each in its own
# make test-deploy   what tools of containers and clusters say of deploy/
# make test-image   build the image for CPUs, run the chart's pod and end it (root, podman)
# make docs     renew the pages that are made from code, and build the documentation into site/
# make test-long   the long forms of tests that make test runs in a small form
# make coverage   which branches the tests take that start no servers

PYTHON ?= python3
VENV := .venv
Q ?= What is machine learning?
ENGINES ?= $(patsubst requirements-%.lock,%,$(filter-out requirements-dev.lock requirements-deploy.lock,$(wildcard requirements-*.lock)))

.PHONY: run serve test test-engines test-deploy test-image test-long coverage setup setup-dev lock docs manifests clean

# A model this small rambles at a temperature of 1; its authors recommend this one. Even so it may
# say the same over and over, to the end of its context: hence the bound.
run: setup
	@$(VENV)/bin/python -m mm_orch.main --temperature 0.2 --max-tokens 400 "$(Q)"

serve: setup
	@$(VENV)/bin/python -m mm_orch.main --server

test: setup-dev
	@scripts/install-system-packages
	@$(VENV)/bin/python -m mm_orch.main --pull smollm2-135m
	@PATH="$(abspath $(VENV))/bin:$$PATH" scripts/check
	@PATH="$(abspath $(VENV))/bin:$$PATH" scripts/test

# ENGINES="deepspeed" proves that one alone; the chain of engines needs them all.
test-engines: setup-dev
	@$(VENV)/bin/python -m mm_orch.main --pull smollm2-135m
	@for engine in $(ENGINES); do PYTHON="$(PYTHON)" scripts/test-engine $$engine || exit 1; done
	@$(if $(and $(filter vllm,$(ENGINES)),$(filter deepspeed,$(ENGINES))),PATH="$(abspath $(VENV))/bin:$$PATH" scripts/test-chain)

test-deploy:
	@PYTHON="$(PYTHON)" scripts/check-deploy

test-image: setup-dev
	@PYTHON="$(PYTHON)" PATH="$(abspath $(VENV))/bin:$$PATH" scripts/test-image

test-long: setup-dev
	@$(VENV)/bin/python -m mm_orch.main --pull smollm2-135m
	@PATH="$(abspath $(VENV))/bin:$$PATH" scripts/test-long

coverage: setup-dev
	@$(VENV)/bin/python -m mm_orch.main --pull smollm2-135m
	@PATH="$(abspath $(VENV))/bin:$$PATH" scripts/coverage

setup:
	@PYTHON="$(PYTHON)" scripts/setup $(VENV) requirements.lock

setup-dev:
	@PYTHON="$(PYTHON)" scripts/setup $(VENV) requirements-dev.lock

# Resolves pyproject.toml anew and rewrites every file made from it.
lock: setup-dev
	@PATH="$(abspath $(VENV))/bin:$$PATH" scripts/lock

# Renews what is made from code (parts of the pages, the example file, the dashboards),
# and builds the documentation into site/: open site/index.html.
docs: setup-dev
	@$(VENV)/bin/python scripts/generate_config_docs.py
	@$(VENV)/bin/python scripts/generate_http_docs.py
	@$(VENV)/bin/python scripts/generate_layer_table.py
	@$(VENV)/bin/python scripts/generate_metrics_table.py
	@$(VENV)/bin/python scripts/generate_dashboards.py
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet
	@echo "docs: open site/index.html"

# Renders the chart into deploy/kubernetes.
manifests:
	@PYTHON="$(PYTHON)" scripts/setup-deploy
	@.venv-deploy/bin/python scripts/generate_manifests.py

clean:
	rm -rf $(VENV) $(VENV)-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
