# The course from the command line; `make` alone lists what there is.
# Without make: `python3 scripts/install.py`, then the command of the recipe.
PYTHON ?= $(or $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done),python3)
VENV := .venv
BIN := $(VENV)/bin
# pip leaves the .pyc files to the first import (--no-compile), so that import must be allowed to write them
unexport PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help book test check verify lab bench peers graders lock notebooks clean

help: ## list these targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1	\2/' | expand -t 18

book: $(VENV)/.stamp ## build the HTML book into _build/html and say where to open it
	@$(BIN)/python scripts/build_book.py

test: $(VENV)/.stamp ## everything that continuous integration runs
	@$(BIN)/python scripts/checks.py test

check: $(VENV)/.stamp ## the fast part of make test: lint, types, import contract, unit tests
	@$(BIN)/python scripts/checks.py check

verify: $(VENV)/.stamp ## run the long tests, then the section experiments with all seeds, and write results/ (hours)
	$(BIN)/python scripts/checks.py long-tests
	$(BIN)/ca14 run offline --seeds 10 --part gridworld --part hyperparameters --part sepsis --part evaluation
	$(BIN)/ca14 run offline --seeds 5 --part pendulum --part driving
	$(BIN)/ca14 make-datasets hopper --keep
	$(BIN)/ca14 run offline --seeds 3 --part hopper
	$(BIN)/ca14 run safe --seeds 10 --part grid --part cliff --part multipliers --part shield --part reactor --part sepsis
	$(BIN)/ca14 run safe --seeds 5 --part velocity
	$(BIN)/ca14 run safe --seeds 3 --part driving
	$(BIN)/ca14 run multi-agent --seeds 10 --part games --part two_step --part credit --part self_play
	$(BIN)/ca14 run multi-agent --seeds 5 --part target_grid --part scaling --part public_games --part communication
	$(BIN)/ca14 run robust --seeds 20 --part regret
	$(BIN)/ca14 run robust --seeds 10 --part mdp --part randomisation --part uncertainty --part distributional
	$(BIN)/ca14 run robust --seeds 5 --part attacks --part adaptation
	$(BIN)/ca14 run evaluation --seeds 5 --part comparison --part healthcare --part driving --part trading --part market
	$(BIN)/ca14 run evaluation --seeds 5 --part robotics --part industrial --part energy --part deployment
	$(BIN)/ca14 run evaluation --seeds 5 --part offline_safe --part fine_tuning --part robust_safe --part partners
	$(BIN)/ca14 run evaluation --seeds 5 --part continual --part preferences
	$(BIN)/python -m benchmarks.cpo_dual

bench: $(VENV)/.stamp ## time updates and environments beside their floors and peers
	$(BIN)/python -m benchmarks.update_speed
	$(BIN)/python -m benchmarks.environment_speed
	$(BIN)/python -m benchmarks.on_policy_speed
	$(BIN)/python -m benchmarks.team_environment_speed
	$(BIN)/python -m benchmarks.team_speed
	$(BIN)/python -m benchmarks.qr_dqn_speed
	$(BIN)/python -m benchmarks.grading_batch
	@if [ -x .venv-peers/bin/python ]; then \
	$(BIN)/python -m benchmarks.peer_speed && $(BIN)/python -m benchmarks.peer_quality; \
	else echo "peers were left out: make peers installs them"; fi
	@if [ -d .venv-peers/epymarl/src ]; then \
	$(BIN)/python -m benchmarks.team_peers; \
	else echo "EPyMARL was left out: make peers fetches it"; fi
	@if [ -x .venv-graders/bin/python ]; then $(BIN)/python -m benchmarks.grader_attacks; \
	else echo "other graders were left out: make graders installs them"; fi

# not on PyPI, so that it is kept as a checkout; the course's own environment has what it needs
EPYMARL := https://github.com/uoe-agents/epymarl
EPYMARL_COMMIT := cbc38c09588064eab978501d0f12c2cf58fa7fc2

peers: ## install the peers that make bench compares with, in .venv-peers
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install -q -r benchmarks/peer_requirements.txt
	@[ -d .venv-peers/epymarl/.git ] || git clone -q $(EPYMARL) .venv-peers/epymarl || \
	{ echo "EPyMARL could not be fetched: clone $(EPYMARL) into .venv-peers/epymarl by hand, then make peers again"; exit 1; }
	@git -C .venv-peers/epymarl checkout -q $(EPYMARL_COMMIT) || \
	{ echo "EPyMARL has no commit $(EPYMARL_COMMIT): remove .venv-peers/epymarl, then make peers again"; exit 1; }

graders: ## install nbgrader and otter-grader in .venv-graders, for the attacks of make bench (they run student code unprotected)
	$(PYTHON) -m venv .venv-graders
	.venv-graders/bin/pip install -q -r benchmarks/grader_requirements.txt

lab: $(VENV)/.stamp ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

notebooks: $(VENV)/.stamp ## run every notebook again, store its outputs and its time
	$(BIN)/python scripts/execute_notebooks.py

lock: ## resolve requirements.in into requirements.lock (needs uv)
	scripts/lock.sh

clean: ## remove the built book, caches and the virtual environment
	rm -rf _build build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis *.egg-info $(VENV)

$(VENV)/.stamp: requirements.lock pyproject.toml scripts/install.py
	@$(PYTHON) scripts/install.py
