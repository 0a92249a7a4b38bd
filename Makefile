# Two commands matter: `make demo` shows the main job end to end, `make test` proves it.
# Everything sets itself up: Python >= 3.11 with venv, make and git are enough.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
SUPPLY := .venv-supply

# The packages of one dependency group.
group = $(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['$(1)'])"

.PHONY: help setup demo test test-slow soak soak-backups soak-fingerprint test-majors check bench bench-backup bench-rehearsal bench-health bench-fingerprint bench-orchestration screenshots format lock wheel clean fuzz audit sbom

help:
	@echo "make demo    the main job end to end, on real servers (Ctrl-C stops it)"
	@echo "make test    the tests (real PostgreSQL, real S3, real Prefect; several at once; 17 minutes on two cores)"
	@echo "make test-slow  the rest: every fault, trap and form that takes long"
	@echo "make soak    1,000 random faults, 250 random kills of a run at work, and 128 cuts of its line (about fifty minutes)"
	@echo "make soak-backups  100 random damages to stored backups (about three minutes)"
	@echo "make soak-fingerprint  1,000 random pairs of DDL sequences against pg_dump (about twenty minutes)"
	@echo "make fuzz    hostile files, documents and ledgers, for long (about ten minutes)"
	@echo "make audit   known vulnerabilities of what the locks pin (needs the network)"
	@echo "make sbom    what a machine in service installs, as CycloneDX, into dist/"
	@echo "make test-majors MAJORS=14=/path/to/bin,18=/path/to/bin  the same schema on other major versions"
	@echo "make check   ruff, mypy --strict, import contracts, squawk"
	@echo "make bench   Lockstep beside nine peers and a floor (about 45 minutes; tables on stdout, all of it in .bench/)"
	@echo "make bench-backup  a backup and a restore of 2 GB beside pg_dump and pg_restore alone (about fifteen minutes)"
	@echo "make bench-rehearsal  a rehearsal on 2 GB beside pg_restore alone, and every form of the lock table (about twenty minutes)"
	@echo "make bench-fingerprint  a schema read beside pg_dump --schema-only (about five minutes)"
	@echo "make bench-health  what lockstep health costs at 50, 500 and 5,000 tables (about a minute)"
	@echo "make bench-orchestration  what Prefect costs a deploy of ten migrations (about five minutes)"
	@echo "make screenshots  the pictures of README and docs, of a real demo run (needs chromium; about five minutes)"
	@echo "make format  format and fix what ruff can"
	@echo "make lock    renew requirements.lock from pyproject.toml, and what of it a machine in service gets"
	@echo "make wheel   build the wheel into dist/"

# One recipe makes the environment; it runs only when the lock or the project's metadata changed.
$(STAMP): requirements.lock pyproject.toml tools/setup-venv.sh
	@PYTHON="$(PYTHON)" sh tools/setup-venv.sh "$(VENV)"

setup: $(STAMP)

demo: $(STAMP)
	@$(BIN)/python -m demo

# Several tests at once, each process with servers of its own: tests/workers.py says how.
test: $(STAMP)
	@$(BIN)/python -m pytest -n auto -m "not slow"

test-slow: $(STAMP)
	@$(BIN)/python -m pytest -n auto -m slow

soak: $(STAMP)
	@LOCKSTEP_FAULTS=$${LOCKSTEP_FAULTS:-1000} LOCKSTEP_KILLS=$${LOCKSTEP_KILLS:-250} LOCKSTEP_CUTS=$${LOCKSTEP_CUTS:-32} \
		$(BIN)/python -m pytest tests/faults tests/integration/test_lost_connections.py

soak-backups: $(STAMP)
	@LOCKSTEP_DAMAGES=$${LOCKSTEP_DAMAGES:-100} $(BIN)/python -m pytest tests/integration/backup/test_damage.py

soak-fingerprint: $(STAMP)
	@LOCKSTEP_SEQUENCES=$${LOCKSTEP_SEQUENCES:-1000} $(BIN)/python -m pytest tests/integration/test_fingerprint_properties.py

# The group `fuzz` is no part of the lock; where it does not install, hypothesis goes alone, and that is said.
fuzz: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(call group,fuzz)) 2>/dev/null \
		|| echo "atheris does not install on this Python: its part is left out"
	@LOCKSTEP_EXAMPLES=$${LOCKSTEP_EXAMPLES:-400} $(BIN)/python -m pytest $$(grep -l "@given" tests/unit/*.py)
	@LOCKSTEP_FUZZ=$${LOCKSTEP_FUZZ:-40} $(BIN)/python -m pytest tests/unit/test_hostile_text.py \
		tests/unit/test_hostile_documents.py tests/integration/test_hostile_ledger.py
	@if $(BIN)/python -c "import atheris" 2>/dev/null; then $(BIN)/python -m tests.coverage_fuzz; fi

test-majors: $(STAMP)
	@LOCKSTEP_TEST_MAJORS=$(MAJORS) $(BIN)/python -m pytest tests/integration/test_fingerprint_same.py

check: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/lockstep validate --strict

# The peers come from wheels, pinned in pyproject.toml; they are no part of the lock.
bench: $(STAMP)
	@$(BIN)/python -m bench.installing
	@$(BIN)/python -m bench

bench-backup: $(STAMP)
	@$(BIN)/python -m bench.backups

bench-rehearsal: $(STAMP)
	@$(BIN)/python -m bench.rehearsal

bench-fingerprint: $(STAMP)
	@$(BIN)/python -m bench.fingerprint

bench-health: $(STAMP)
	@$(BIN)/python -m bench.health

bench-orchestration: $(STAMP)
	@$(BIN)/python -m bench.orchestration

screenshots: $(STAMP)
	@$(BIN)/python -m demo.screenshots

format: $(STAMP)
	@$(BIN)/ruff check --fix . || true
	@$(BIN)/ruff format .

lock: $(STAMP)
	@$(BIN)/python -m pip install --quiet "uv>=0.9"
	@$(BIN)/uv pip compile pyproject.toml --extra demo --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet --upgrade -o requirements.lock
	@$(BIN)/uv pip compile pyproject.toml -c requirements.lock --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-emit-index-url --no-emit-find-links --no-header --quiet -o deploy/requirements.lock

wheel: $(STAMP)
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . >/dev/null && ls dist

# The tools have dependencies of their own, so they live apart from what they look at.
$(SUPPLY)/.ready: pyproject.toml $(STAMP)
	@$(BIN)/python -m venv --clear $(SUPPLY)
	@$(SUPPLY)/bin/python -m pip install --quiet --disable-pip-version-check $$($(call group,supply))
	@touch $@

audit: $(SUPPLY)/.ready
	@$(BIN)/python tools/audit.py $(SUPPLY)/bin/pip-audit requirements.lock deploy/requirements.lock

sbom: $(SUPPLY)/.ready
	@mkdir -p dist
	@$(SUPPLY)/bin/python -W ignore -m cyclonedx_py requirements --output-reproducible --pyproject pyproject.toml \
		--output-format JSON --output-file dist/pg-lockstep.cdx.json deploy/requirements.lock
	@ls dist/pg-lockstep.cdx.json

clean:
	rm -rf $(VENV) $(SUPPLY) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
