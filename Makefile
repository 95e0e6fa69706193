# Everything happens in .venv/, made with $(PYTHON); each target sets up what it needs first, and set-up is
# skipped while neither the pins nor pyproject.toml change. Nothing else has to be installed by hand.

PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PYTEST_ARGS ?=
BENCH_ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help:
	@echo 'make demo    run the demo program on embedded defaults'
	@echo 'make test    run the tests (PYTEST_ARGS="-k name" narrows them)'
	@echo 'make stress  the long tests as well, and twenty times as many cases of those that explore'
	@echo 'make check   format, lint, types, docs, tests here and elsewhere, coverage: is it good?'
	@echo 'make cover   the tests, with branch coverage: is enough of each floor tested?'
	@echo 'make bench   run the benchmarks, peers included (BENCH_ARGS=--check holds them to the bars)'
	@echo 'make mutants break the core in small ways, and see the tests notice (MODULE=_tomb: one module)'
	@echo 'make docs    build the documentation into build/docs'
	@echo 'make screenshots  take the pictures of the page that the documentation shows (with Chromium)'
	@echo 'make services  install etcd and PostgreSQL, which tests start, from Debian packages (as root)'
	@echo 'make setup   only set up .venv for all of the above'
	@echo 'make pins    recompile requirements/ from pyproject.toml'
	@echo 'make clean   remove .venv and everything built'

# -- set-up -------------------------------------------------------------------------------------------------
# Two steps, because the demo and the benchmarks need a tenth of what the checks need.

.PHONY: setup
setup: .venv/.dev

.venv/.run: requirements/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo '$(PYTHON) is not Python 3.11 or later; name one that is: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo '$(PYTHON) has no venv module; install it (Debian and Ubuntu: python3-venv)' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo 'making .venv'; $(PYTHON) -m venv --clear .venv; }
	@echo 'installing requirements/run.txt and the project'
	@$(PIP_INSTALL) --require-hashes -r requirements/run.txt
	@$(PIP_INSTALL) --no-build-isolation --no-deps -e .
	@$(BIN)/python -m compileall -q trioworker  # as pip does for what it installs: the first start is no slower
	@touch $@

.venv/.dev: requirements/dev.txt .venv/.run
	@echo 'installing requirements/dev.txt'
	@$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

# -- use ----------------------------------------------------------------------------------------------------

.PHONY: demo
demo: .venv/.run
	@$(BIN)/trioworker demo

.PHONY: test
test: .venv/.dev
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: stress
stress: .venv/.dev
	@$(BIN)/python -m pytest --tier=long $(PYTEST_ARGS)

.PHONY: check
check: .venv/.dev
	@MAKE='$(MAKE)' $(BIN)/python tools/check.py

# What floors 0 to 3 promise is strict, so all of it is covered; of the rest, what is worth it.
FLOORS := trioworker/*.py,trioworker/dependency/*

.PHONY: cover
cover: .venv/.dev
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest $(PYTEST_ARGS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report --include='$(FLOORS)' --fail-under=100; floors=$$?; \
	    $(BIN)/python -m coverage report --omit='$(FLOORS)' --fail-under=95 && exit $$floors

.PHONY: bench
bench: .venv/.run
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

.PHONY: mutants
mutants: .venv/.dev
	@$(BIN)/python tools/mutants.py $(MODULE)

.PHONY: docs
docs: .venv/.dev
	@$(BIN)/python -m sphinx -q -n -W --keep-going -d build/doctrees docs build/docs
	@echo 'built build/docs/index.html'

.PHONY: screenshots
screenshots: .venv/.dev
	@mkdir -p docs/_static
	@REQUIRE_BROWSER=1 SCREENSHOTS=docs/_static $(BIN)/python -m pytest -q tests/browser/test_screenshots.py
	@echo 'docs/_static has new pictures'

# Without them the tests that need them are skipped; with REQUIRE_SERVICES=1 they fail. Nothing else here installs
# anything outside of .venv/.
.PHONY: services
services:
	@sh tools/services.sh

# -- upkeep -------------------------------------------------------------------------------------------------
# From the dependency lists in pyproject.toml, so that nothing is listed twice. The files name versions and hashes
# only: where packages come from is the business of the machine that installs them. An existing pin is kept while
# it fits; PINS_ARGS=--upgrade renews all of them. The tests elsewhere (tools/elsewhere.py) need the last two.

PINS_ARGS ?=
UV_COMPILE := env -u PIP_FIND_LINKS $(BIN)/uv pip compile --quiet --universal --generate-hashes \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(PINS_ARGS)
COMPILE := $(UV_COMPILE) --python-version 3.11 pyproject.toml --extra all
PEERS := $(basename $(wildcard benchmarks/peers/requirements/*.in))

.PHONY: pins
pins: .venv/.dev
	$(COMPILE) --group build --group bench -o requirements/run.txt
	$(COMPILE) --group dev --group docs --group bench -c requirements/run.txt -o requirements/dev.txt
	$(foreach peer,$(PEERS),$(UV_COMPILE) --python-version $(if $(findstring triotp,$(peer)),3.13,3.11) \
	    -c requirements/run.txt $(peer).in -o $(peer).txt &&) true
	$(COMPILE) --group test -c requirements/dev.txt -o requirements/test.txt
	$(COMPILE) --group test --resolution lowest-direct -o requirements/lowest.txt

.PHONY: clean
clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov
