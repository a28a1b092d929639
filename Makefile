# `make lab` to read and run the notebooks, `make test` to check a change. Both set up .venv on first use.
# Another Python: PYTHON=python3.12 make lab
PYTHON ?=
NAMES ?=
export PYTHON
SET_UP = @sh .ci/setup_env.sh
RUN = @.venv/bin/python
NOX = build/nox/bin/nox

.PHONY: help lab test lint test-browser test-slow test-class notebooks course site package test-colab test-oldest test-newest clean

help:
	@echo "make lab          open the notebooks in JupyterLab"
	@echo "make test         lint, types, imports, tests, and every notebook of the course, once"
	@echo "make lint         lint, types and imports only"
	@echo "make test-browser stored notebooks, solutions and live panels in JupyterLab (needs Chromium)"
	@echo "make test-slow    the tests that take minutes each"
	@echo "make test-class   sixty hand-ins, careless and hostile ones among them, are graded"
	@echo "make test-colab   the wheel with the versions that Colab has (Python 3.13; 10 GB free the first time)"
	@echo "make test-oldest, make test-newest   the oldest versions that are allowed (Python 3.10), the newest (3.14)"
	@echo "make notebooks    run the notebooks and store their outputs (NAMES='02_maml 05_cxgrad' for some)"
	@echo "make course       student versions of the assignments, and a zip of the course, in build/course (SEED=… for a term)"
	@echo "make site         the course as a site, in build/site (needs Python 3.11)"
	@echo "make package      source archive and wheel, in dist"
	@echo "make clean        remove .venv, build, dist and the caches"
	@echo "Another Python: PYTHON=python3.12 make lab"

lab:
	$(SET_UP) lab
	@sh .ci/lab.sh

test:
	$(SET_UP) lab test course
	$(RUN) .ci/check.py

lint:
	$(SET_UP) lab test course
	$(RUN) .ci/check.py lint format types imports

test-browser:
	$(SET_UP) lab test course site
	$(RUN) .ci/check.py browser

test-slow:
	$(SET_UP) lab test course
	$(RUN) .ci/check.py slow

notebooks:
	$(SET_UP) lab test course
	$(RUN) .ci/execute_notebooks.py $(NAMES)

course:
	@$(or $(PYTHON),python3) .ci/build_course.py $(if $(SEED),--seed "$(SEED)")

test-class:
	$(SET_UP) lab test course
	@CXGRAD_CLASS=60 .venv/bin/python -m pytest -q tests/course/test_class.py

site:
	$(SET_UP) lab site
	$(RUN) .ci/build_site.py

package:
	$(SET_UP) lab test course
	$(RUN) .ci/build_package.py

test-colab test-oldest test-newest: $(NOX)
	@$(NOX) -f .ci/noxfile.py -s $(@:test-%=%) --no-error-on-missing-interpreters

# In an environment of its own: the sessions need nothing of .venv.
$(NOX):
	@echo "setup: installing nox into build/nox"
	@$${PYTHON:-python3} -m venv build/nox && build/nox/bin/python -m pip install --quiet --disable-pip-version-check nox

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist cxgrad_lite.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
