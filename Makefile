# make demo    finds edited copies among pictures that come with scikit-image, and writes demo/result/report.html
# make test    ruff, mypy, then the tests
# Both first make the environment in .venv: once, again when setup.cfg changes, and for other EXTRAS.
# EXTRAS=cpu,dev,overlay also tests the overlay detector (ultralytics, AGPL-3.0).
# In a new .venv EXTRAS=gpu,dev takes faiss-gpu instead of faiss-cpu, PYTHON=python3.13 another Python.

VENV := .venv
PY := $(VENV)/bin/python
EXTRAS ?= cpu,dev
STAMP := $(VENV)/.matcher-installed-$(subst $() ,,$(EXTRAS))
PYTHON ?=

.PHONY: help demo test
help:
	@sed -n '/^$$/q; s/^# //p' Makefile

demo: $(STAMP)
	$(PY) -m matcher demo --output demo

test: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --max-worker-restart 0 # two processes on two cores: a thread each; if one dies, the end

# uv installs faster than pip and takes the same wheels; where it cannot (an index that only pip knows), pip does it.
# editable_mode=compat: from the folder that holds this one, `import matcher` would else find this folder, not the package in it.
$(STAMP): setup.cfg pyproject.toml | $(PY)
	@echo "installing matcher[$(EXTRAS)] into $(VENV): a few minutes, about 6 GB"
	@$(PY) -m pip install --quiet --disable-pip-version-check uv || true
	@$(PY) -m uv pip install --quiet --python $(PY) --compile-bytecode -C editable_mode=compat --editable '.[$(EXTRAS)]' \
		|| $(PY) -m pip install --quiet --disable-pip-version-check -C editable_mode=compat --editable '.[$(EXTRAS)]'
	@touch $@

$(PY):
	@for python in $(PYTHON) python3.12 python3.13 python3.11 python3.14 python3; do \
		if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "making $(VENV) with $$($$python --version)"; \
			exec $$python -m venv $(VENV); \
		fi; \
	done; \
	echo "matcher needs Python 3.11 or newer with its venv module, and finds none; install it (Debian, Ubuntu: apt-get install python3 python3-venv) or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
	exit 1
