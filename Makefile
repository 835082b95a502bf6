# Every target makes .venv on first use, from requirements.lock; it needs Python 3.11+ with venv, nothing else.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODEGEN := .venv-codegen
SBOM := .venv-sbom
CHECKOV := .venv-checkov
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE ?= npd-mesh:$(VERSION)
READY := $(VENV)/.ready
LOCKING := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate

.PHONY: help demo up test lint protos fresh bench bench-ring bench-pki bench-footprint image image-directory sbom citus dashboards k8s-check lock clean

help:  ## what can be made
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 20

$(READY): requirements.lock pyproject.toml protos/pyproject.toml pki/pyproject.toml
	@echo "Preparing $(VENV) (once, and when requirements.lock changes) ..."
	@$(PYTHON) -c 'import sys, venv; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e ./protos -e ./pki -e .
	@touch $@

demo: $(READY)  ## tell the story on a real database and real certificates
	@$(BIN)/npd demo

up: $(READY)  ## run the mesh on this machine until Ctrl-C
	@$(BIN)/npd up

lint: $(READY) fresh  ## ruff, mypy strict, buf, import-linter, generated code fresh
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test: lint  ## lint and all tests
	@$(BIN)/pytest -n 3 --dist loadfile

bench: $(READY)  ## GetCitizen against a bare mTLS echo in one run
	@$(BIN)/python -m tests.bench.lookup

bench-ring: $(READY)  ## from an event at a source to a lookup and a follower; 200 open Watches; reservations
	@$(BIN)/python -m tests.bench.ring
	@$(BIN)/python -m tests.bench.reservation

bench-pki: $(READY)  ## issuing, renewal under load, revocation to last accepted call, rollover, inventory, the door
	@$(BIN)/python -m tests.bench.pki

bench-footprint: $(READY) image-directory  ## memory and processor time of each workload; writes k8s/footprint.toml
	@$(BIN)/python -m tests.bench.footprint --image .build/image

image:  ## build the container image: make image PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
	@k8s/image/build.sh "$(PYTHON_IMAGE)" "$(IMAGE)"

image-directory:  ## the same steps into .build/image, without a container builder
	@$(PYTHON) k8s/image/directory.py

$(SBOM)/.ready: k8s/image/sbom.lock
	@test -x $(SBOM)/bin/python || $(PYTHON) -m venv $(SBOM)
	@$(SBOM)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r k8s/image/sbom.lock
	@touch $@

sbom: $(SBOM)/.ready image-directory  ## what the image holds, as CycloneDX: .build/npd-mesh.cdx.json
	@$(SBOM)/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --gather-license-texts --output-reproducible \
	  --spec-version 1.6 --output-format JSON --validate --output-file .build/npd-mesh.cdx.json .build/image/app/bin/python

citus: $(READY)  ## k8s/citus/*.sql anew from the tables' shard keys
	@$(BIN)/python -m k8s.citus.generate

dashboards: $(READY)  ## Grafana's dashboards anew from their questions (k8s/dashboards)
	@$(BIN)/python -m k8s.dashboards.generate

$(CHECKOV)/.ready: k8s/checkov.lock
	@test -x $(CHECKOV)/bin/python || $(PYTHON) -m venv $(CHECKOV)
	@$(CHECKOV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r k8s/checkov.lock
	@touch $@

k8s-check: $(READY) $(CHECKOV)/.ready image-directory  ## pods from the built image, rehearsed; checkov over the manifests
	@$(BIN)/pytest -n 2 --dist loadfile tests/pods

$(CODEGEN)/.ready: protos/codegen.lock
	@test -x $(CODEGEN)/bin/python || $(PYTHON) -m venv $(CODEGEN)
	@$(CODEGEN)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r protos/codegen.lock
	@touch $@

protos: $(CODEGEN)/.ready  ## generate the stubs anew from the contract
	@$(CODEGEN)/bin/python protos/generate.py protos/gen

fresh: $(CODEGEN)/.ready $(READY)  ## are the checked-in stubs those of the contract, and does buf accept it?
	@$(CODEGEN)/bin/python protos/generate.py --check --image $(CODEGEN)/contract.binpb protos/gen
	@$(BIN)/buf lint $(CODEGEN)/contract.binpb --config protos/buf.yaml --path npd

lock:  ## resolve the lock files anew (needs uv)
	@$(LOCKING) --no-emit-package npd-client --no-emit-package npd-pki --no-emit-package npd-mesh --extra dev $(UPGRADE) pyproject.toml -o requirements.lock
	@$(LOCKING) protos/codegen.in $(UPGRADE) -o protos/codegen.lock
	@$(LOCKING) --no-emit-package npd-client --no-emit-package npd-pki --no-emit-package npd-mesh --extra pkcs11 --constraint requirements.lock pyproject.toml pki/pyproject.toml -o k8s/image/runtime.lock
	@$(LOCKING) --constraint requirements.lock k8s/image/build.in -o k8s/image/build.lock
	@$(LOCKING) k8s/image/sbom.in $(UPGRADE) -o k8s/image/sbom.lock
	@$(LOCKING) k8s/checkov.in $(UPGRADE) -o k8s/checkov.lock

clean:  ## remove the environments and the local mesh
	@rm -rf $(VENV) $(CODEGEN) $(SBOM) $(CHECKOV) .build .npd
