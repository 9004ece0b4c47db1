# Thin on purpose: every recipe is what you would type in the activated environment.
PYTHON ?= python3
ACTIVATE = . .venv/bin/activate &&

.PHONY: all test lock envs clean

all: .venv/ready
	$(ACTIVATE) snakemake --rerun-incomplete all
	@$(MAKE) --no-print-directory results/report.html
	@echo "Figures:  $$(ls results/*.pdf | tr '\n' ' ')"
	@echo "Verdicts: results/claims.md results/claims.json"
	@echo "Report:   results/report.html"

results/report.html: results/claims.json $(wildcard results/*.pdf)
	$(ACTIVATE) snakemake --report $@ all

test: .venv/ready
	$(ACTIVATE) ruff format --check . && ruff check .
	$(ACTIVATE) snakefmt --check Snakefile rules
	$(ACTIVATE) mypy
	$(ACTIVATE) lint-imports
	$(ACTIVATE) python envs/generate.py --check
	$(ACTIVATE) pytest

.venv/ready: requirements.lock pyproject.toml
	@echo "Installing into .venv: about two minutes"
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --no-compile --requirement requirements.lock
	.venv/bin/pip install --quiet --no-deps --editable .
	touch $@

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
	rm -rf results/* .snakemake logs && git checkout -- results
