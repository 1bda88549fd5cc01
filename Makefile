# Two commands matter to a newcomer: `make demo` and `make test`. Each installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check format conformance bench clean

help:
	@echo "make demo                    a whole mesh with Bookinfo on this machine (Ctrl-C ends it)"
	@echo "make demo DETACH=1           the same, returns when everything is ready"
	@echo "make demo ARGS=...           further options, such as --publish 80:9090 when 8080 is taken"
	@echo "make test                    all tests (real Envoy, real namespaces)"
	@echo "make check                   format, lint, types, import layers"
	@echo "make conformance CORPUS=DIR  run others' cases; ONLY=validation,... picks some"
	@echo "make bench                   the control plane at scale: table and plots (about 20 minutes)"

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Lateen needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11"; exit 3; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed pyproject.toml
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --group dev
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/lateen up -f samples/bookinfo --drive /productpage $(if $(DETACH),--detach) $(ARGS)

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.installed-dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

conformance: $(VENV)/.installed-dev
	@$(BIN)/python .ci/conformance.py $(CORPUS) $(if $(ONLY),--only $(ONLY))

# Needs a quiet machine: the proxies of the rig share it with the control plane.
bench: $(VENV)/.installed-dev
	@$(BIN)/python -m benchmarks.scale all --services 1000 --endpoints 5 --proxies 1000 --namespaces 20 $(ARGS)
	@$(BIN)/python -m benchmarks.scale grid --namespaces 20 --repetitions 5 --plots docs/plots $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
