# `make demo` does the main job once, `make test` runs the tests, `make serve` runs the node. README.md says how long.
# A CPU-only machine saves several GB with: make TORCH_INDEX=https://download.pytorch.org/whl/cpu demo

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
CONFIG ?= config/node.yaml
DATA ?= ../shared/data
FUZZ_SECONDS ?= 300
KILLS ?= 200
INSTANCES ?= 0
TORTURE := --kills $(KILLS) --instances $(INSTANCES) --disk 2000 --set-clock
JOBS ?= 2
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest $(if $(filter-out 0 1,$(JOBS)),-n $(JOBS) --dist loadfile --no-loadscope-reorder)
PIP := $(BIN)/python -m pip --disable-pip-version-check
EXTRA_INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: help install dev peers peers-labels peers-nnssl peers-oidc peers-viewer demo serve test test-hosts test-labels test-again test-long test-nnssl test-viewer check format reference agreements soak torture bench-postgresql bench-ingest bench-retrieve bench-query dicomweb-table bench-segment bench-volume bench-studies bench-page bench-deidentify bench-pretraining fuzz lock supply-chain advisories scan scan-short clean

help:  ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.installed  ## the node in a virtual environment

dev: $(VENV)/.installed-dev  ## the node and what its tests need

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %d.%d; try make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# torch by itself first: with it in place nothing else asks for another build of it. timm wants torchvision, which must
# come from the same index, or it cannot load its operators, and nnU-Net cannot look for trainers.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	$(PIP) install -q $(EXTRA_INDEX) -c constraints.txt torch torchvision
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt $(VENV)/.torch
	$(PIP) install -q -c constraints.txt -e '.[dev,training]'
	@touch $@ $(VENV)/.installed

peers:  ## the real DICOM peers that tests talk to, Helm and Docker Compose (Debian and Ubuntu)
	@sh tests/install_peers.sh
	@PYTHON=$(BIN)/python timeout 300 sh tests/deploy/install_tools.sh || echo "no Helm, no Docker Compose: their tests are skipped" >&2

peers-labels:  ## an Orthanc that has labels, in a folder (as root, 420 MB); without it, its tests are skipped
	@sh tests/install_labelled_orthanc.sh

peers-viewer:  ## OHIF and modules for Node.js (npm, 110 MB) and Chromium (as root); without them, tests/viewer is skipped
	@sh tests/viewer/install.sh

peers-oidc:  ## an OpenID Connect provider that wants PKCE (npm, 3.4 MB); without it, its tests are skipped
	@sh tests/access/oidc_server/install.sh

peers-nnssl:  ## stock nnssl in a Python 3.12 of its own (1 to 4 GB); without it, tests/nnssl is skipped
	@sh tests/nnssl/install.sh

demo: install  ## the main job: start a node, send it three series, fetch the results
	$(BIN)/dicom-node demo --out demo-out

serve: install  ## run the node with $(CONFIG)
	$(BIN)/dicom-node serve -c $(CONFIG)

test: dev peers  ## all tests but the long ones, in two processes (JOBS=1: one after the other)
	$(PYTEST) -m "not slow"

test-again: dev  ## the tests that failed in the run before, one by one; a test that passes only here must be mended
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none

test-long: dev peers  ## the tests that take longest: killed processes, real data, training
	$(PYTEST) -m slow --ignore tests/viewer --ignore tests/nnssl --ignore tests/hosts

test-viewer: dev peers  ## the node's results in OHIF and in dcmjs, where peers-viewer can install them
	@timeout 300 sh tests/viewer/install.sh || echo "no viewer: its tests are skipped" >&2
	$(BIN)/python -m pytest tests/viewer --session-timeout=600

test-nnssl: dev  ## datasets in stock nnssl's preprocessing, where peers-nnssl can install it
	@timeout 900 sh tests/nnssl/install.sh || echo "no nnssl: its tests are skipped" >&2
	$(BIN)/python -m pytest tests/nnssl --session-timeout=1200

test-hosts: dev peers  ## one node on three hosts, with links cut and hosts killed; needs root and network namespaces
	$(BIN)/python -m pytest tests/hosts -rs -s --session-timeout=1200

test-labels: dev peers  ## states of studies in an Orthanc that has labels, where peers-labels can install it
	@timeout 400 sh tests/install_labelled_orthanc.sh || echo "no Orthanc with labels: its tests are skipped" >&2
	$(BIN)/python -m pytest tests/peers/test_notices_orthanc.py -k label --session-timeout=300

check: dev  ## format, lint, types, arrows between the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: dev  ## put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

reference: dev  ## docs/reference.md and docs/conformance.md from the code
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_conformance.py

agreements: dev peers  ## docs/agreements.md: real series beside SimpleITK and dcm2niix
	$(BIN)/python -m benchmarks.agreements $(DATA)/dicom

.PHONY: bench-cluster
bench-cluster: dev  ## segment on local Dask workers: what a task costs, what stays in one process
	$(BIN)/python -m benchmarks.bench_cluster

soak: dev peers  ## hundreds of mixed series through segment and through a node
	$(BIN)/python -m tests.soak.soak --data $(DATA)/dicom

torture: dev peers  ## senders, and trouble every few seconds; on SQLite, then on PostgreSQL; KILLS=200 INSTANCES=0
	$(BIN)/python -m tests.torture.torture --database sqlite $(TORTURE)
	$(BIN)/python -m tests.torture.torture --database postgresql $(TORTURE)

bench-postgresql: dev peers  ## the index on PostgreSQL: drivers, claims, several processes
	$(BIN)/python -m benchmarks.bench_postgresql

bench-ingest: dev peers  ## durable ingest against storescp, Orthanc and qrscp
	$(BIN)/python -m benchmarks.bench_ingest

bench-retrieve: dev peers  ## DICOMweb against Orthanc's plugin
	$(BIN)/python -m benchmarks.bench_retrieve

bench-query: dev peers  ## QIDO-RS and C-FIND among a million instances against Orthanc, which has a tenth of them
	$(BIN)/python -m benchmarks.bench_query

dicomweb-table: dev peers  ## DICOMweb request by request, the node and Orthanc side by side
	$(BIN)/python -m benchmarks.dicomweb_table > docs/dicomweb-compatibility.md

bench-segment: dev  ## time and memory against nnUNetPredictor and nnUNetv2_predict
	$(BIN)/python -m benchmarks.bench_segment
	$(BIN)/python -m benchmarks.bench_commands

bench-volume: dev peers  ## series to volume against SimpleITK and dcm2niix
	$(BIN)/python -m benchmarks.bench_volume

bench-studies: dev  ## lists of studies and the survey of retention among 100,000 studies
	$(BIN)/python -m benchmarks.bench_studies

bench-page: dev  ## the page among 100,000 studies, 100 reviews by key, the page of an offline run with 10,000 volumes
	$(BIN)/python -m benchmarks.bench_page
	$(BIN)/python -m benchmarks.bench_review
	$(BIN)/python -m benchmarks.bench_offline_page

bench-deidentify: dev  ## de-identification against dicom-anonymizer, in an environment of its own under build/
	test -d build/dicom-anonymizer || (python3 -m venv build/dicom-anonymizer && build/dicom-anonymizer/bin/pip install --quiet dicom-anonymizer==2.1.0)
	$(BIN)/python -m benchmarks.bench_deidentify --other build/dicom-anonymizer/bin/python

bench-pretraining: dev  ## what pretraining and its masks add to few-shot segmentation; continues where it was stopped
	$(BIN)/python -m benchmarks.pretraining --data $(DATA) --work build/bench-pretraining

bench-loaders: dev  ## patches a second and time of a step against nnssl, nnU-Net and AnatoMask (ANATOMASK_SOURCE=checkout)
	$(BIN)/python -m benchmarks.loaders --data $(DATA) --work build/bench-loaders

fuzz: dev  ## drive what anybody may send by coverage, FUZZ_SECONDS=300
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)

# uv, pip-licenses and pip-audit are tools of these targets alone, in an environment of their own.
build/supply-chain/.installed:
	$(PYTHON) -m venv build/supply-chain
	build/supply-chain/bin/python -m pip --disable-pip-version-check install -q uv==0.13.9 pip-licenses==5.5.5 pip-audit==2.10.1
	@touch $@

lock: build/supply-chain/.installed  ## locks/ from pyproject.toml and constraints.txt (asks PyPI, and PyTorch's index when torch changes)
	build/supply-chain/bin/python -m supply_chain.lock

supply-chain: dev build/supply-chain/.installed  ## dist/: bill of materials (CycloneDX), licences, licence texts of what is shipped
	mkdir -p dist
	$(BIN)/python -m supply_chain.licences > dist/licences.md
	$(BIN)/python -m supply_chain.sbom > dist/dicom-node.cdx.json
	build/supply-chain/bin/pip-licenses --python $(BIN)/python --format plain-vertical --with-license-file --no-license-path --with-notice-file --output-file dist/third-party.txt --packages $$(grep -ohE '^[a-z0-9-]+==' locks/node.txt locks/torch-cpu.txt | tr -d =)

advisories: build/supply-chain/.installed  ## known vulnerabilities of the locked packages (asks osv.dev; fails when it cannot be reached)
	sed 's/+cpu//' locks/torch-cpu.txt | cat locks/node.txt - > build/supply-chain/audited.txt
	build/supply-chain/bin/pip-audit --strict --disable-pip --vulnerability-service osv --requirement build/supply-chain/audited.txt

# sslyze is AGPL; they are tools of this target alone, and each wants other versions of the same libraries.
build/scan/st/.installed:
	$(PYTHON) -m venv build/scan/st
	build/scan/st/bin/python -m pip --disable-pip-version-check install -q sslyze==6.3.1 schemathesis==4.32.5
	@touch $@

build/scan/wapiti/.installed:
	$(PYTHON) -m venv build/scan/wapiti
	build/scan/wapiti/bin/python -m pip --disable-pip-version-check install -q wapiti3==3.2.3
	@touch $@

scan: dev peers build/scan/st/.installed build/scan/wapiti/.installed  ## outside scanners against a running node: schemathesis for each role, sslyze, wapiti
	$(BIN)/python -m tests.scan.scan --tools build/scan

scan-short: dev peers build/scan/st/.installed  ## the same with few requests, two roles and without wapiti
	$(BIN)/python -m tests.scan.scan --tools build/scan --short

clean:  ## remove the environment and what tests and the demo left
	rm -rf $(VENV) demo-out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
