# One word for every job; "make" alone lists them. Needs GNU make 3.81 or newer.

PYTHON ?= python3
PROFILE ?= demo
AT_A_TIME ?= 2
ARGS =
FACENET = facenet-pytorch==2.6.0
TORCH = $$(grep -E '^torch(vision)?==' requirements.txt)

# An active conda environment made from environment.yml is used as it is.
ifeq ($(CONDA_DEFAULT_ENV),fercompanion)
BIN = $(CONDA_PREFIX)/bin
INSTALLED =
else
BIN = .venv/bin
INSTALLED = .venv/.done
endif
PIP = $(BIN)/python -m pip --disable-pip-version-check
RUN = $(BIN)/python tools/run_notebooks.py --workers $(AT_A_TIME)

# Notebooks run in notebooks/, so relative paths are completed here.
ifeq ($(origin DATA),command line)
FERCOMPANION_DATA := $(DATA)
endif
complete = $(if $(filter /% ~%,$($1)),$($1),$(CURDIR)/$($1))
$(foreach folder,FERCOMPANION_DATA FERCOMPANION_RESULTS FERCOMPANION_CACHE,\
  $(if $($(folder)),$(eval export $(folder) := $(call complete,$(folder)))))

.PHONY: help setup reproduce figures test lab notebooks doctor landmarks sweep demo-faces facenet
.PHONY: clean distclean

help: ## list what can be made (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  PROFILE=demo|paper-cpu|paper  demo: synthetic faces (default)"
	@echo "                                paper-cpu: short, narrow runs on FER2013 and CK+, and Kim et al. by the printed"
	@echo "                                recipe; all archived"
	@echo "                                paper: full width; partly archived, the rest needs a GPU"
	@echo "  DATA=folder                   where FER2013 and CK+ lie (or set FERCOMPANION_DATA)"
	@echo "  RETRAIN=1                     train archived runs anew, into a folder of their own"
	@echo "  AT_A_TIME=1                   run notebooks one by one (2 by default: about 1.5 GB of memory each)"
	@echo "  ARGS=...                      more options of the tool, such as ARGS=--verbose"
	@echo "  PYTHON=python3.12             the Python that make setup takes (3.11 to 3.14)"
	@echo
	@echo "  FERCOMPANION_CACHE, _RESULTS  folders of landmarks and enlarged faces, and of runs, instead of the usual ones"
	@echo "  FERCOMPANION_RECORD=0         on a GPU, launch each training step anew instead of replaying a record of it"
	@echo "  FERCOMPANION_DEBUG=1          a run that fails ends the sweep, with its traceback"

setup: $(INSTALLED) ## install the pinned packages into .venv (once; two minutes, on Linux 6 GB)
	@echo "ready: $(BIN)/python"

.venv/.done: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || \
	  { echo "$(PYTHON) is not Python 3.11 to 3.14; name one that is, as in: make setup PYTHON=python3.12"; \
	    exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"; \
	    exit 1; } >&2
	$(PYTHON) -m venv .venv
	@echo "1/3 torch (large)"
	@$(PIP) install --no-compile --constraint requirements.txt $(TORCH)
	@echo "2/3 the other packages of requirements.txt (a minute or two without a word)"
	@$(PIP) install --no-compile --quiet --requirement requirements.txt
	@echo "3/3 $(FACENET) and fercompanion itself"
	@$(PIP) install --quiet --no-deps $(FACENET)
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m ipykernel install --sys-prefix --name python3 >/dev/null
	@touch $@

reproduce: $(INSTALLED) ## train what is missing, run all notebooks: make reproduce PROFILE=paper DATA=/folder
	@start=$$(date +%s); \
	$(BIN)/python -m fercompanion sweep --profile $(PROFILE) || \
	  { test $$? -eq 3 && echo "going on with the runs that are there"; } && \
	$(RUN) --profile $(PROFILE) $(ARGS) && \
	echo "make reproduce: done in $$(($$(date +%s) - start)) s; figures/$(PROFILE)/ and build/notebooks/$(PROFILE)/"

figures: $(INSTALLED) ## redraw tables and figures from results/, without ever training (PROFILE)
	@FERCOMPANION_NO_TRAINING=1 $(RUN) --profile $(PROFILE) $(ARGS)

# Three at a time share the cores: threads of one would spin while the others work.
NBVAL = $(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout 300
test: $(INSTALLED) ## lint, unit tests, and all notebooks under nbval
	@start=$$(date +%s); failed=; mkdir -p build; \
	{ $(BIN)/ruff check && $(BIN)/ruff format --check; } || failed="$$failed ruff"; \
	$(BIN)/python -m fercompanion sweep --profile demo || failed="$$failed sweep"; \
	export OMP_NUM_THREADS=1; \
	echo "unit tests and notebooks, three at a time, into build/unit-tests.txt, siblings.txt and here"; \
	$(BIN)/python -m pytest tests > build/unit-tests.txt 2>&1 & unit=$$!; \
	$(NBVAL) notebooks/0[89]*.ipynb notebooks/1*.ipynb > build/siblings.txt 2>&1 & siblings=$$!; \
	trap 'kill $$unit $$siblings; exit 130' INT; \
	$(NBVAL) notebooks/0[0-7]*.ipynb || failed="$$failed notebooks"; \
	wait $$siblings || failed="$$failed siblings"; cat build/siblings.txt; \
	wait $$unit || failed="$$failed pytest"; cat build/unit-tests.txt; \
	echo "make test: $${failed:+FAILED:}$${failed:-all passed}, $$(($$(date +%s) - start)) s"; \
	test -z "$$failed"

lab: $(INSTALLED) ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks $(ARGS)

notebooks: $(INSTALLED) ## for maintainers: give the committed notebooks new outputs, with the demo profile
	@$(RUN) --in-place $(ARGS)

doctor: $(INSTALLED) ## tell which data sets and what hardware are here
	@$(BIN)/python -m fercompanion doctor $(ARGS)

landmarks: $(INSTALLED) ## find the landmarks of FER2013 and CK+ once, for all later runs (DATA)
	@found=1; for name in fer2013 ckplus; do \
	  $(BIN)/python -m fercompanion landmarks --data $$name $(ARGS) && found=0; done; exit $$found

sweep: $(INSTALLED) ## train all missing runs of a profile; goes on where it stopped (PROFILE, DATA)
	@$(BIN)/python -m fercompanion sweep --profile $(PROFILE) $(ARGS)

demo-faces: $(INSTALLED) ## tell how the embedded demo faces are rendered anew (rarely needed)
	@$(BIN)/python tools/render_demo_faces.py --help

facenet: $(INSTALLED) ## for conda users, once: add facenet-pytorch (setup does it for all others)
	@$(PIP) install --no-deps $(FACENET)

clean: ## remove build/ and caches; results/ and figures/ are never touched
	rm -rf build .pytest_cache .ruff_cache *.egg-info
	find fercompanion tests tools notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
	@echo "results/ and figures/ stay: remove them yourself if you mean it"

distclean: clean ## clean, and remove .venv too
	rm -rf .venv
