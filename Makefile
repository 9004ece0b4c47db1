# Thin on purpose: every recipe is what you would type in the activated environment.
PYTHON ?= python3
ACTIVATE = . .venv/bin/activate &&

.PHONY: all test audit test-slurm test-faults unlock python lock envs pictures compare clean

all: .venv/ready
	$(ACTIVATE) snakemake --rerun-incomplete all || $(FAILED)
	@$(MAKE) --no-print-directory results/report.html
	@$(ACTIVATE) tgn times results
	@echo "Figures:  $$(ls results/*.pdf | tr '\n' ' ')"
	@echo "Verdicts: results/claims.md results/claims.json"
	@echo "Report:   results/report.html"

# Snakemake takes its lock away when it ends, so one that is left is another run's.
FAILED = { [ -z "$$(ls .snakemake/locks 2>/dev/null)" ] || echo "Another run holds the lock of \
	this folder. If none is at work here (one was killed): make unlock, then make" >&2; exit 1; }

unlock: .venv/ready
	$(ACTIVATE) snakemake --unlock

results/report.html: results/claims.json $(wildcard results/*.pdf results/manuscript/*.pdf)
	$(ACTIVATE) snakemake --report $@ all

# Small copies of the figures in results/, for the pages that show them.
pictures: .venv/ready
	$(ACTIVATE) python docs/pictures/make.py results docs/pictures

# Two results folders, claim by claim: another revision's, or another scale's.
compare: .venv/ready
	@[ -n "$(A)" ] && [ -n "$(B)" ] || { \
	echo "Which two results folders? make compare A=results B=results/paper" >&2; exit 1; }
	@$(ACTIVATE) tgn compare $(A) $(B)

test: .venv/ready
	$(ACTIVATE) ruff format --check . && ruff check .
	$(ACTIVATE) snakefmt --check Snakefile rules
	$(ACTIVATE) mypy
	$(ACTIVATE) lint-imports
	$(ACTIVATE) python envs/generate.py --check
	$(ACTIVATE) pytest --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder
	-@$(MAKE) --no-print-directory audit

# Known vulnerabilities of what the lock installs; skipped, with the reason, where nobody can be asked.
# Other people find them, so `make test` tells of them and does not fail.
audit: .venv/ready
	$(ACTIVATE) python envs/audit.py

# Every figure at the smoke scale on a SLURM of two nodes, which the tests install (apt, root), start
# and stop; and trainings that are killed, cancelled and preempted there.
test-slurm: .venv/ready
	$(ACTIVATE) pytest -rs tests/slurm

# Kills, full and read-only disks, strange folders; what needs root is skipped without.
test-faults: .venv/ready
	$(ACTIVATE) pytest -rs tests/faults

.venv/ready: requirements.lock pyproject.toml | python
	@echo "Installing into .venv: about two minutes"
	[ -x .venv/bin/pip ] || $(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --no-compile --requirement requirements.lock
	.venv/bin/pip install --quiet --no-deps --editable .
	touch $@

# An environment that is there is kept, so it is its Python that counts.
python:
	@python="$(PYTHON)"; remedy="name another one: make PYTHON=python3.12"; \
	[ ! -e .venv ] || { python=.venv/bin/python; remedy="make .venv anew: rm -rf .venv && make"; }; \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "Python 3.11 or newer is needed; $$python is: $$($$python --version 2>&1)" >&2; \
	echo "To mend it, $$remedy" >&2; exit 1; }

# The lock: every version of a fresh installation. The build of torch is left to the installer.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install '.[workflow,dev]'
	.venv-lock/bin/pip freeze --exclude tgn | sed 's/+cpu$$//' > requirements.lock
	rm -rf .venv-lock
	$(MAKE) envs

envs: .venv/ready
	$(ACTIVATE) python envs/generate.py

clean:
	rm -rf results .snakemake logs
