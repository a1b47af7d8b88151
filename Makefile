# Every target sets up what it needs: a virtual environment in .venv, the MQTT broker in .dinrail. Where the system's Python
# lacks its venv module, root gets Debian's package for it installed. What tests fetch is kept in ~/.cache/dinrail.
BIN := .venv/bin
SITE ?= site
PYTEST_ARGS ?=
# A test that fails is run once more and listed with its first failure: see docs/development.md. One that leaves a task is not.
RERUN := --reruns 1 --rerun-show-tracebacks --rerun-except "the test left tasks running"
# Each module's tests run in one of so many processes: much of what they do is to wait.
WORKERS ?= 3
INPUTS := pyproject.toml constraints.txt services/cli/bootstrap.sh
SOURCES := contracts plugins services tests examples bench monitoring

.NOTPARALLEL:
.PHONY: help up test coverage deploy-test images sbom lint contracts diagrams bench clean broker

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

up: .venv/.installed-all broker ## the demo plant: broker, simulated machines, all services, live values; Ctrl-C stops it
	@exec $(BIN)/dinrail up --dir $(SITE) --example plant

# Hundreds of processes are started: each would compile anew what it imports.
unexport PYTHONDONTWRITEBYTECODE

test: .venv/.installed-dev broker ## all tests; in WORKERS=3 processes; PYTEST_ARGS=... adds options
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(RERUN) $(PYTEST_ARGS)

coverage: ## all tests, and which lines they ran: unit tests take twice as long
	@$(MAKE) --no-print-directory test PYTEST_ARGS="--cov --cov-report=term $(PYTEST_ARGS)"

deploy-test: .venv/.installed-dev broker ## the composed stack: each container killed and paused in turn, and nothing may be missing; needs Docker
	@DEPLOY_TEST=long $(BIN)/python -m pytest tests/deploy --ignore tests/deploy/test_bare_machine.py -p no:randomly --durations 10 $(PYTEST_ARGS)

COMPOSE ?= docker compose
IMAGES := cli gateway orchestrator compute recorder identity

images: ## an image per service, which says of what commit it is
	@DINRAIL_REVISION=$$(git describe --always --dirty --abbrev=40 --exclude '*') COMPOSE_PROFILES=init $(COMPOSE) build init $(filter-out cli,$(IMAGES))

sbom: images ## each image's bill of materials, CycloneDX, into dist/sbom
	@mkdir -p dist/sbom
	@for image in $(IMAGES); do \
	  docker run --rm --entrypoint cat dinrail/$$image:$${DINRAIL_TAG:-local} /usr/share/sbom/dinrail.cdx.json >dist/sbom/$$image.cdx.json || exit 1; \
	  echo dist/sbom/$$image.cdx.json; done

lint: .venv/.installed-dev ## ruff, mypy --strict, the layers of imports, the contracts' documents
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/dinrail contracts check

contracts: .venv/.installed-dev ## write the contracts' schemas and AsyncAPI document anew from the code
	$(BIN)/dinrail contracts generate

diagrams: .venv/.installed-dev ## draw docs/diagrams anew from architecture.yaml (needs graphviz)
	$(BIN)/python docs/diagrams/draw.py

bench: .venv/.installed-dev broker ## measure the spine: values/s, latency, CPU
	$(BIN)/python -m bench.spine

clean: ## remove the virtual environment and fetched programs; a site's data stays
	rm -rf .venv .dinrail .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* *.egg-info

broker:
	@$(BIN)/python -m services.cli.broker >/dev/null

.venv/.installed-dev: $(INPUTS)
	@sh services/cli/bootstrap.sh dev
	@touch .venv/.installed-all $@

.venv/.installed-all: $(INPUTS)
	@sh services/cli/bootstrap.sh all
	@touch $@
