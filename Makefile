# Everything starts from Python and make: uv is put into the project and called by its path, because a plain `uv`
# or `python3.12` on the PATH may be a pyenv shim that does not answer.
UV_VERSION := 0.13.8
UV := .uv/bin/uv
PY := .venv/bin/python
# Where Python is told to keep no compiled modules, every process would compile hundreds of them again: 4 s with Dagster.
COMPILE := $(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode)
STAMP := .venv/.farm-intel-synced
BENCH_STAMP := .venv/.farm-intel-synced-bench

.PHONY: help setup demo up check test nightly bench bench-activities faults trial chaos docs clean
help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

$(UV):
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"

$(STAMP): $(UV) pyproject.toml uv.lock .python-version
	$(UV) sync --frozen --all-extras --quiet $(COMPILE)
	@touch $(STAMP)

$(BENCH_STAMP): $(STAMP)
	$(UV) sync --frozen --all-extras --group bench --quiet $(COMPILE)
	@touch $(BENCH_STAMP) $(STAMP)

setup: $(STAMP) ## install everything into .venv

demo: $(STAMP) ## build a simulated farm world and run the main job on it
	.venv/bin/farm-intel demo

up: $(STAMP) ## start the Dagster UI and daemon on localhost
	.venv/bin/farm-intel up

check: $(STAMP) ## lint, types, security, layers, structure, docs, definitions
	.venv/bin/ruff check farm_intel farm_intel_tests benchmarks tools
	.venv/bin/ruff format --check farm_intel farm_intel_tests benchmarks tools
	.venv/bin/mypy
	.venv/bin/bandit -q -c pyproject.toml -r farm_intel
	.venv/bin/lint-imports
	$(PY) tools/structure_guard.py farm_intel
	$(PY) tools/make_docs.py --check
	FARM_INTEL_HOME=.cache/check $(PY) tools/check_definitions.py
	FARM_INTEL_HOME=.cache/check DAGSTER_HOME= .venv/bin/dagster definitions validate -w workspace.yaml --log-level warning

test: check ## check, then all tests
	.venv/bin/pytest

nightly: $(STAMP) ## the trials that are too long for `make test`
	.venv/bin/pytest -m nightly

bench: $(BENCH_STAMP) ## measure against pinned peers, as ratios in one run
	$(PY) -m benchmarks.run

faults: $(STAMP) ## strike every provider with every fault and print what each ends in
	$(PY) -m tools.faults

chaos: $(STAMP) ## kill activities and delivery everywhere, and print what was lost or done twice
	$(PY) -m tools.chaos

bench-activities: $(STAMP) ## measure how fast due occurrences are generated, finished and delivered
	$(PY) -m benchmarks.activities

trial: $(STAMP) ## a simulated drought: alert, voice, mail, webhook, WebSocket, escalation, rain
	$(PY) -m tools.trial

docs: $(STAMP) ## write the generated pages under docs/
	$(PY) tools/make_docs.py

clean:
	rm -rf .venv .uv .cache .farm_intel
