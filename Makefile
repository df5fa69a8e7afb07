# `make demo` and `make test` need only git, make and Python 3.11 or newer.
#   PYTHON=python3.12        interpreter that makes the environment
#   DATA=real                screen the demo runs on: synthetic, real or rosetta (a download of 4.5 MB)
#   CONSTRAINTS=, VENV=      other pinned versions, another place for the environment
PYTHON ?= python3
DATA := synthetic
VENV := .venv
CONSTRAINTS := constraints.txt
EXTRAS := bayes,dev,dinov2,real,spatial,test,zarr

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)
export MPLBACKEND ?= Agg

.PHONY: help demo test slow oracles browser lint docs links clean
.DELETE_ON_ERROR:

help:
	@echo "make demo [DATA=real]   train PETRI on a small screen, write figures to petri_demo/; or DATA=rosetta"
	@echo "make test               run the default test suite"
	@echo "make slow               run what takes longer than the default suite allows"
	@echo "make oracles            compare the scores with other implementations"
	@echo "make browser            look at pages in a browser; needs Chromium or Chrome"
	@echo "make lint               ruff and mypy"
	@echo "make docs               build docs/_build/html"
	@echo "make links              check the external links of the pages, if there is a network"
	@echo "make clean              remove the environment and everything built"

demo: $(VENV)/.installed
	$(BIN)/python -m petri_scvi.demo --data $(DATA) --out petri_demo

# A process per core, each of one thread. The tests of a file share fixtures, so they stay together.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

test: $(VENV)/.installed
	$(PYTEST)

# Training runs that show the mechanism, the demo, several processes.
slow: $(VENV)/.installed
	$(PYTEST) -m "slow and not gpu and not network and not real"

# Missing oracles skip their tests; here a skip is a failure.
oracles: $(VENV)/.oracles-installed
	PETRI_SCVI_ORACLES=required $(BIN)/python -m pytest tests/tl/test_equivalence_oracles.py

# The browser itself comes from the system; PETRI_SCVI_CHROMIUM names one that is not on the path.
browser: $(VENV)/.browser-installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs-installed
	$(BIN)/sphinx-build --quiet -W --keep-going --fresh-env docs docs/_build/html

# Links that work today may be dead tomorrow, so this is no part of `make docs`.
links: $(VENV)/.docs-installed
	@if $(BIN)/python -c "import socket; socket.create_connection(('docs.scvi-tools.org', 443), 10)" 2>/dev/null; then \
		$(BIN)/sphinx-build --quiet -b linkcheck docs docs/_build/links; \
	else echo "No network: external links are not checked."; fi

clean:
	rm -rf $(VENV) build dist docs/_build docs/generated petri_demo .mypy_cache .pytest_cache .ruff_cache

# The stamp is written last, so the next `make` takes up an interrupted installation. A broken environment is made anew;
# nothing but an environment is ever cleared.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	@rm -f $@
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { $(check_python) && $(PYTHON) -m venv $(if $(wildcard $(VENV)/pyvenv.cfg),--clear) $(VENV); }
	@echo "Installing into $(VENV); the first time takes some minutes."
	$(INSTALL) torch
	$(INSTALL) --editable ".[$(EXTRAS)]"
	@touch $@

$(VENV)/.docs-installed: $(VENV)/.installed
	@rm -f $@
	$(INSTALL) --editable ".[doc]"
	@touch $@

$(VENV)/.browser-installed: $(VENV)/.installed
	@rm -f $@
	$(INSTALL) --editable ".[browser]"
	@touch $@

$(VENV)/.oracles-installed: .ci/oracles.txt $(VENV)/.installed
	@rm -f $@
	$(INSTALL) --no-deps -r .ci/oracles.txt
	@touch $@

check_python = { $(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || \
	{ echo "$(PYTHON) is missing or older than Python 3.11. Choose another: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }; }
