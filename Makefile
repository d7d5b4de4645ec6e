# Thin: dev.py sets up .venv and runs the tools in it.

PYTHON ?= python3
FAULTS_SECONDS ?= 3600
FUZZ_SECONDS ?= 600

.PHONY: test lint lab faults fuzz bench

test:
	$(PYTHON) dev.py test

lint:
	$(PYTHON) dev.py setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

lab:
	$(PYTHON) dev.py lab

# Random faults for FAULTS_SECONDS; FAULTS_SEED=... begins with the faults of that seed.
faults:
	$(PYTHON) dev.py setup
	FAULTS_SECONDS=$(FAULTS_SECONDS) .venv/bin/pytest tests/faults -s

# How fast it is on this machine, in ten minutes; BENCH="storm --json FILE" does some of it.
bench:
	$(PYTHON) dev.py setup
	.venv/bin/python -m tests.bench $(BENCH)

# FUZZ_SECONDS for each target, with a seed of its own, which is printed (`python -m tests.fuzz.run NAME --seed N` goes the
# same way again); what is found is kept below tests/fuzz/corpus, as crash-...
fuzz:
	$(PYTHON) dev.py setup
	FUZZ_SECONDS=$(FUZZ_SECONDS) .venv/bin/pytest tests/fuzz -s
