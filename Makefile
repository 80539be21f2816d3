# Everything a target needs is set up by the target. PIP_ARGS reaches pip, e.g. for an index with CPU builds of torch.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEPLOY := $(VENV)/.deploy
SBOM := $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file
SHAPES := shapes-dit shapes-sit shapes-mdt shapes-lightningdit shapes-repa shapes-mg

# Interpreters start sooner where modules lie compiled; tests start many.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo check test quick whole lint parity serve train-shapes evidence bench openapi settings notebooks docs lock sbom audit

help: ## what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## a virtual environment in .venv with everything in it

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) -c constraints.txt -e ".[test]"
	touch $@

$(DEPLOY): $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) -c constraints.txt -e ".[deploy]"
	touch $@

demo: $(INSTALLED) ## start the stack, prune and sample a shipped model, write demo/prune-sample.png
	$(BIN)/python -m demo

check: $(INSTALLED) ## linting, types, import rules and the quick tests that start no process (under three minutes)
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line lint quick

quick: $(INSTALLED) ## the quick tests that start no process alone
	$(BIN)/python -m pytest -m "not process and not slow"

test: $(INSTALLED) ## linting, types, import rules and all tests
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line lint whole

whole: $(INSTALLED) ## all tests alone
	$(BIN)/python -m pytest -n 3 --dist loadfile --durations=15

lint: $(INSTALLED) ## linting, types and import rules alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

parity: $(INSTALLED) ## agreement with the official implementations; REFERENCE_CASES names another folder of cases
	$(BIN)/python -m pytest -q tests/tailprune/test_parity.py

serve: $(INSTALLED) ## Redis, a worker and the service on http://127.0.0.1:8000
	$(BIN)/tailprune serve

train-shapes: $(INSTALLED) ## train the shipped models anew (about six hours on one core)
	$(BIN)/python -m tailprune.training.shapes_classifier
	for model in $(SHAPES); do $(BIN)/python -m tailprune.training.shapes_models $$model || exit; done
	for model in $(SHAPES); do $(BIN)/python -m tailprune.training.card $$model || exit; done
	$(BIN)/python -m tailprune.training.shapes_transformer

evidence: $(INSTALLED) ## the paper's tables and figures on the shipped models, into docs/evidence.md, compaction.md, pruning.md and large-transformers.md (over an hour)
	$(BIN)/python -m evidence
	$(BIN)/python -m evidence.compaction
	$(BIN)/python -m evidence.learned_masks
	$(BIN)/python -m evidence.transformer

bench: $(INSTALLED) ## measure against what a user would run instead, into this machine's column of benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks

openapi: $(INSTALLED) ## write openapi.yaml anew from the application, and the types of the pages from it
	$(BIN)/python -m service.openapi > openapi.yaml
	$(BIN)/python -m tests.pages.contract_types

settings: $(INSTALLED) ## write docs/settings.md anew from the code
	$(BIN)/python -m documentation.settings > docs/settings.md

notebooks: $(INSTALLED) ## run the notebooks, and write their outputs into them
	$(BIN)/python -m documentation.notebooks

docs: $(INSTALLED) ## the documentation as a site, with search, in site/index.html
	$(BIN)/python -m documentation

lock: $(DEPLOY) ## write what the images install anew, with hashes, from constraints.txt
	$(BIN)/python docker/lock.py

sbom: $(DEPLOY) ## what each image holds, as CycloneDX in build/sbom-service.json and build/sbom-worker.json
	mkdir -p build
	cat docker/service.lock | $(SBOM) build/sbom-service.json -
	grep '^torch==' constraints.txt | cat docker/worker.lock - | $(SBOM) build/sbom-worker.json -

audit: $(DEPLOY) ## known vulnerabilities of what the images hold; needs the internet, as it asks the Python advisory database
	for image in service worker; do $(BIN)/pip-audit --strict --require-hashes --disable-pip -r docker/$$image.lock || exit; done
