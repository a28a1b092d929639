# `make lab` to read and run the notebooks, `make test` to check everything. Both set up .venv on first use.
# Another Python: PYTHON=python3.12 make lab
PYTHON ?=
NAMES ?=
export PYTHON

.PHONY: help lab test lint notebooks course package test-colab test-oldest test-newest clean

help:
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make test       lint, types, tests, and every notebook from top to bottom"
	@echo "make lint       lint and types only"
	@echo "make notebooks  run the notebooks and store their outputs (NAMES='02_maml 05_cxgrad' for some)"
	@echo "make course     student versions of the assignments, and a zip of the course, in build/course"
	@echo "make package    source archive and wheel, in dist"
	@echo "make test-colab test with the versions that Colab has (Python 3.13; 10 GB free the first time)"
	@echo "make test-oldest, make test-newest   test with the oldest and newest versions of what this needs"
	@echo "make clean      remove .venv and the caches"
	@echo "Another Python: PYTHON=python3.12 make lab"

lab:
	@sh .ci/setup_env.sh lab
	@sh .ci/lab.sh

test:
	@sh .ci/setup_env.sh lab test course
	@.venv/bin/python .ci/check.py

lint:
	@sh .ci/setup_env.sh lab test course
	@.venv/bin/python .ci/check.py lint format types imports

notebooks:
	@sh .ci/setup_env.sh lab test course
	@.venv/bin/python .ci/execute_notebooks.py $(NAMES)

course:
	@sh .ci/setup_env.sh lab test course
	@.venv/bin/python .ci/build_course.py

package:
	@sh .ci/setup_env.sh lab test course
	@.venv/bin/python .ci/build_package.py

test-colab:
	@sh .ci/colab.sh

test-oldest:
	@sh .ci/versions.sh oldest

test-newest:
	@sh .ci/versions.sh newest

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist cxgrad_lite.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
