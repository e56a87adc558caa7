# All that a newcomer needs: make demo, make test, make bench, make check. Each installs what it lacks into .venv and, as root on Debian,
# by apt; otherwise it prints the command to run. `make help` lists the rest.

SHELL := /bin/sh
.DEFAULT_GOAL := help
PY := .venv/bin/python

# What the two README commands do, on real data, on a node of your own.
DEMO = $(PY) -m aeclient.cli --group higgs --workers 2 --master '$(PY) examples/dimuon.py --master' -- $(CURDIR)/$(PY) $(CURDIR)/examples/dimuon.py
TEST_ARGS ?=
BENCH_ARGS ?=
FUZZ_SECONDS ?= 60
CHECKED := aed aeclient aegroup bench tests/support tests/conftest.py

.PHONY: help demo test test-site bench check fuzz clean programs

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: .venv/.has-daemon .venv/.has-demo ## dimuon spectrum from two sandboxed workers, on a node of your own; leaves out/dimuon.png
	@tools/packages bwrap || echo "make demo: goes on without it, with less isolation"
	@mkdir -p out
	$(DEMO)

test: .venv/.has-daemon .venv/.has-demo .venv/.has-test programs ## all tests but the site ones; unprivileged: what can run, and the names of what was left out
	$(PY) -m pytest -m "not site" --continue-on-collection-errors $(TEST_ARGS)

test-site: .venv/.has-daemon .venv/.has-demo .venv/.has-test programs ## what needs a whole site: KDCs, VOMS, systemd trees, long faults
	@if grep -rqs --include='test_*.py' -e 'mark\.site' tests; then \
	    echo '$(PY) -m pytest -m site $(TEST_ARGS)'; $(PY) -m pytest -m site $(TEST_ARGS); \
	else echo "make test-site: nothing yet"; fi

bench: .venv/.has-daemon .venv/.has-test ## against OpenSSH, as root; BENCH_ARGS="--only oneshot --pairs 3"; leaves out/bench.json
	@tools/packages bwrap sshd ssh ssh-keygen useradd
	@mkdir -p out
	$(PY) -m bench.run $(BENCH_ARGS)

check: .venv/.has-daemon .venv/.has-test ## ruff, mypy --strict, import floors
	@failed=; \
	for tool in "ruff check ." "mypy $(CHECKED)" "pytest -q tests/test_floors.py"; do \
	    echo "$(PY) -m $$tool"; $(PY) -m $$tool || failed="$$failed$${failed:+, }$${tool%% *}"; \
	done; \
	test -z "$$failed" || { echo "make check failed in: $$failed" >&2; exit 1; }

fuzz: .venv/.has-daemon .venv/.has-test .venv/.has-atheris ## atheris targets, FUZZ_SECONDS=60 each
	tools/fuzz $(FUZZ_SECONDS)

clean: ## what was built, and .venv
	rm -rf .venv out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Exit 3 is "named, not installed": tests that need it say so themselves.
programs:
	@tools/packages bwrap sshd ssh ssh-keygen ssh-agent openssl git || test $$? -eq 3

# One stamp for each set of Python packages, newer than the file that lists them: a second run looks at dates and is done.
.venv/.has-venv: pyproject.toml tools/venv tools/find-python
	@tools/packages venv
	tools/venv
	@touch $@

.venv/.has-daemon .venv/.has-demo .venv/.has-test: .venv/.has-%: .venv/.has-venv
	tools/venv $*
	@touch $@

.venv/.has-atheris: .venv/.has-venv
	PIP_ROOT_USER_ACTION=ignore $(PY) -m pip install -q atheris || { echo "make fuzz needs atheris, which has no wheel for this Python"; exit 1; }
	@touch $@
