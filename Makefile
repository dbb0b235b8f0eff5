# Every target installs what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
export PATH := $(CURDIR)/$(BIN):$(PATH)
# One setting for every process, so that two runs on the same machine add floats in the same order.
export OMP_NUM_THREADS ?= 2
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
PARAMS ?= params.yaml
PROFILE ?= paper
# Cells at a time in `make reproduce`, processes in `make test`; each stage uses as many threads as its profile says.
JOBS ?= 2
SECONDS ?= 60
AUDIT := .venv-audit/bin/pip-audit
.PHONY: help install accept audit axe fuzz nox picture gpu-check rehearse-gpu-check smoke rehearse verify search memory ties count-full-scale memory-full-scale ablations reproduce reproduce-cpu reproduce-paper status reports test test-slow test-quick lint bench bench-check bench-growth notebooks lab clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-20s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## the environment alone, in .venv

reproduce: $(VENV)/.installed ## quick profile: environment, embedded corpus, every stage, report page
	dvc pull data.dvc
	replicate sweep --profile quick --jobs $(JOBS)
	@echo "Report: reports/quick/index.html (replicate report --open)"
	@echo "It shows every stage at work, on toys of a million parameters and made-up data: no evidence about the papers."
	@echo "Measured on real data: reports/cpu/index.html, verdicts with replicate compare --profile cpu"

# glibc keeps freed memory, in huge pages, for the next training step, which makes it faster; the numbers are the same.
# Other systems ignore these.
reproduce-cpu: export MALLOC_MMAP_THRESHOLD_ := 8589934592
reproduce-cpu: export MALLOC_TRIM_THRESHOLD_ := 17179869184
reproduce-cpu: export MALLOC_TOP_PAD_ := 268435456
reproduce-cpu: export GLIBC_TUNABLES := glibc.malloc.hugetlb=1
reproduce-cpu: $(VENV)/.installed ## cpu profile: packaged pretrained weights, real corpora, hours
	replicate sweep --profile cpu --jobs $(JOBS)
	@echo "Report: reports/cpu/index.html"

# The report is made of whatever has run, and the exit status is the sweep's.
reproduce-paper: $(VENV)/.installed ## paper profile, one experiment a GPU: make reproduce-paper [ONLY="task:cola backbone:gpt2-*"]
	status=0; replicate sweep --profile paper $(if $(filter command%,$(origin JOBS)),--jobs $(JOBS)) \
		$(foreach pattern,$(ONLY),--only '$(pattern)') || status=$$?; \
	python -m pipelines.report --params pipelines/paper/params.yaml && \
	echo "Report: reports/paper/index.html" && exit $$status

search: $(VENV)/.installed ## learning rate of one method: make search CASE=lora [PARAMS=params.yaml]
	@test -n "$(CASE)" || { echo "name a case under searches of $(PARAMS): make search CASE=lora" >&2; exit 2; }
	python -m pipelines.search --params $(PARAMS) --case $(CASE)
	dvc commit --force $(if $(filter params.yaml,$(PARAMS)),,$(dir $(PARAMS))dvc.yaml:)search@$(CASE)

accept: $(VENV)/.installed ## keep results after an edit that changes none: make accept [PARAMS=pipelines/cpu/params.yaml]
	dvc pull data.dvc
	replicate accept --params $(PARAMS)

verify: $(VENV)/.installed ## recompute every committed score and count, and compare the files of each run
	dvc pull data.dvc
	replicate verify --profile quick --profile cpu

memory: $(VENV)/.installed ## peak memory of WeightLoRA's phase 2 against K: make memory [PARAMS=pipelines/cpu/params.yaml]
	python -m pipelines.memory --params $(PARAMS)

ties: $(VENV)/.installed ## whether float32 tells WeightLoRA's weights apart where it chooses: make ties PARAMS=pipelines/cpu/params.yaml
	python -m pipelines.ties --params $(PARAMS)

count-full-scale: $(VENV)/.installed ## recount every published parameter count on the real architectures
	replicate count-published --output measurements/full_scale/parameters.json

memory-full-scale: $(VENV)/.installed ## predicted peak memory at the papers' shapes, without a GPU
	replicate memory full-scale --output measurements/full_scale/memory.json

ablations: $(VENV)/.installed ## effect of each bug in the authors' code, on toy models; complete results are kept
	dvc pull data.dvc
	python -m studies.ablations
	python -m analysis.show.documents --only details

status: $(VENV)/.installed ## which stages of one profile are not up to date, and why: make status PROFILE=cpu
	replicate status --profile $(if $(filter command% environment%,$(origin PROFILE)),$(PROFILE),quick)

reports: $(VENV)/.installed ## rebuild every committed report from its committed records, in seconds
	printf '%s\n' params.yaml pipelines/cpu/params.yaml | xargs -P 2 -n 1 python -m pipelines.report --params

test: $(VENV)/.installed-dev ## environment and all tests but the slow ones
	dvc pull data.dvc
	OMP_NUM_THREADS=1 python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: $(VENV)/.installed-dev ## the slow tests, which kill or run for long (docs/test-slow.md)
	dvc pull data.dvc
	OMP_NUM_THREADS=1 python -m pytest --numprocesses $(JOBS) --dist load -m slow

test-quick: $(VENV)/.installed-dev ## the tests that take seconds
	dvc pull data.dvc
	OMP_NUM_THREADS=1 python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow and not long and not browser"

axe: ## axe-core from the npm registry, for the browser tests (which say `not run` without it)
	npm install --no-save --no-package-lock --ignore-scripts --no-audit --no-fund axe-core@4.14.1

picture: $(VENV)/.installed ## docs/report.png: the first screen of the cpu report (needs a Chromium)
	python -m analysis.show.picture --profile cpu

lint: $(VENV)/.installed-dev ## ruff, mypy and the import contracts
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache

audit: | $(VENV)/bin/python ## known faults of the pinned packages, by pip-audit: needs its database on the network
# In an environment of its own: what pip-audit needs is no part of the project, and changes none of its packages.
	test -x $(AUDIT) || { $(BIN)/python -m venv .venv-audit && .venv-audit/bin/python -m pip install \
		--disable-pip-version-check --constraint constraints.txt pip-audit; }
	@$(AUDIT) --requirement constraints.txt --no-deps --disable-pip --progress-spinner off > .audit.log 2>&1; \
		status=$$?; unread=$$(grep -c 'could not be audited' .audit.log); \
		if grep -qE 'ConnectionError|ServiceError|timed out' .audit.log || [ "$$unread" -gt 9 ]; then status=1; \
		echo "audit: not done: the database of known faults cannot be reached; run it where the network is open" >&2; \
		else cat .audit.log; fi; rm -f .audit.log; exit $$status

fuzz: $(VENV)/.installed-dev ## coverage-guided fuzzing of the parsers by atheris: make fuzz [SECONDS=60], of each
	$(PIP_INSTALL) --editable ".[fuzz]"
	targets=$$(python tests/fuzz.py --list) && for target in $$targets; do \
		python tests/fuzz.py $$target -max_total_time=$(SECONDS) -verbosity=0 || exit 1; done

nox: $(VENV)/.installed ## quick tests on every Python found, and with the oldest and newest transformers and PEFT
	$(PIP_INSTALL) nox
	nox

gpu-check: $(VENV)/.installed ## does this GPU do all that the paper profile needs? 8 minutes, no network: gpu-check.json
	python benchmarks/gpu_check.py --output gpu-check.json

smoke: $(VENV)/.installed ## a few steps of every stage on this machine and hub: make smoke PROFILE=paper
	replicate smoke --profile $(PROFILE)

rehearse: $(VENV)/.installed-dev ## the paper profile against a loopback hub with tiny models: no GPU, no network, minutes
	OMP_NUM_THREADS=1 python tests/rehearse.py $(JOBS)

rehearse-gpu-check: $(VENV)/.installed ## the same script on the CPU with tiny models: does it work itself?
	python benchmarks/gpu_check.py --device cpu --tiny --output logs/gpu-check.json

# Threads that wait must not burn processor time: it is measured.
bench bench-growth: export OMP_WAIT_POLICY := passive
bench: $(VENV)/.installed-dev ## speed and memory, contenders in turn: make bench [ONLY="gpt2 deberta"] [ROUNDS=11] [JSON=1]
	python -m benchmarks run $(foreach name,$(ONLY),--only $(name)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(JSON),--json)
	@python -m benchmarks document

bench-check: $(VENV)/.installed-dev ## compare benchmarks/results with benchmarks/goals.yaml: make bench-check [JSON=1]
	@python -m benchmarks check $(if $(JSON),--json)

bench-growth: $(VENV)/.installed-dev ## step time and memory against K, rank, depth and length; decoding; report building
	python -m benchmarks growth
	@python -m benchmarks document

notebooks: $(VENV)/.installed-notebooks ## run the teaching notebooks and render them: reports/notebooks/*.html
	python notebooks/render.py

lab: $(VENV)/.installed-notebooks ## open the notebooks in JupyterLab
	jupyter lab notebooks

clean: ## remove what the pipeline can rebuild (not results)
	rm -rf prepared weights checkpoints logs smoke .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; choose one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP_INSTALL) --editable ".[dev]"
	@touch $@

$(VENV)/.installed-notebooks: $(VENV)/.installed
	$(PIP_INSTALL) --editable ".[notebooks]"
	@touch $@
