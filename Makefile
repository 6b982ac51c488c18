# Set-up, demonstration, tests. `make` without a target lists the targets.
PYTHON = .venv/bin/python
# Two processes. The tests of a file run in the same process and share their fixtures.
TEST = $(PYTHON) -m pytest -n 2 --dist loadfile
DOCKER = docker
IMAGE = global-attention
.DEFAULT_GOAL = help
.PHONY: help setup demo test test-all soak reference-check mutants version-map lint onnx align keras3 web serve serve-setup distributed tutorial tutorial-zh tutorial-setup tutorial-outputs site browser settings-page image lock lock-newer clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

setup: ## find CPython 3.6, create .venv and install the pinned packages, once
	@sh setup.sh

demo: setup ## train on samples/translate (minutes), score the test set, translate sentences, draw alignments
	$(PYTHON) train.py --overwrite
	$(PYTHON) evaluate.py --run runs/translate --bleu-tokenize zh --alignments samples/translate/test.align
	$(PYTHON) predict.py --run runs/translate --show-attention --plot-dir runs/translate/alignments

test: setup ## the fast tests
	$(TEST) -m "not slow"

test-all: setup ## all tests, including the slow ones
	$(TEST)

soak: setup ## kill a training at 50 random moments and resume it each time (many minutes)
	KILLS=50 $(PYTHON) -m pytest -q tests/test_resume.py -k killed_at_random_moments

reference-check: setup ## compute the reference outputs again and compare them (3 minutes)
	$(PYTHON) regress.py check

mutants: setup ## introduce faults into the code, and show whether the reference outputs detect them (minutes)
	$(PYTHON) tests/mutants.py

version-map: setup ## measure what other versions of TensorFlow and Keras change: docs/versions.md (hours, gigabytes)
	$(PYTHON) benchmarks/version_map.py prepare $(if $(MULTI30K),--multi30k $(MULTI30K)) $(if $(OLD_MODELS),--old-models $(OLD_MODELS))
	$(PYTHON) benchmarks/version_map.py measure $(ROWS)

lint: setup ## check the style of the code
	$(PYTHON) -m flake8

onnx: setup ## install the packages for `export.py --format onnx` and its tests into .venv
	$(PYTHON) -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-onnx.txt

align: setup ## build eflomal in .venv-align, the word aligner of `train.py --alignments auto` (needs gcc and make; a minute)
	@sh align.sh $(PYTHON)

keras3: ## create .venv-keras3 with Keras 3 for `regress.py convert` (CPython 3.11 to 3.13; 1.7 GB, a minute)
	@sh newer_python.sh .venv-keras3 requirements-keras3.txt

# Nothing of the package is run here; `runtime_files` compares its hash.
WEB = onnxruntime-web-1.22.0.tgz
web: onnx ## bring what `export.py --format web` needs: the package onnx, and onnxruntime-web from npm's registry
	test -f exporting/$(WEB) || curl -fsSL -o exporting/$(WEB) https://registry.npmjs.org/onnxruntime-web/-/$(WEB) || \
	    (cd exporting && npm pack --silent onnxruntime-web@$(WEB:onnxruntime-web-%.tgz=%))
	$(PYTHON) -m exporting.web_runtime

RUN = runs/translate
serve: serve-setup ## start the web server on the run of `make demo`; on another one: RUN=DIR
	@test -f $(RUN)/weights.h5 || { echo '$(RUN): is no trained run: make demo trains one, RUN=DIR names another' >&2; exit 1; }
	$(PYTHON) serve.py --run $(RUN)

serve-setup: setup ## install the packages for `serve.py` and its tests into .venv
	$(PYTHON) -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-serve.txt

distributed: setup ## build Horovod for several workers into .venv (needs g++ and make; minutes)
	@sh distributed.sh $(PYTHON)

JUPYTER =
tutorial: tutorial-setup ## open the tutorial in the language of LANG; as root, or without a browser: JUPYTER='--allow-root --no-browser'
	$(PYTHON) -m notebook $(JUPYTER) $(if $(filter zh%,$(LC_ALL) $(LANG)),docs/tutorial.zh-CN.ipynb,docs/tutorial.ipynb)

tutorial-zh: tutorial-setup ## open the tutorial in Chinese
	$(PYTHON) -m notebook $(JUPYTER) docs/tutorial.zh-CN.ipynb

tutorial-setup: setup ## install the packages for the tutorial and its test into .venv
	$(PYTHON) -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-tutorial.txt

tutorial-outputs: tutorial-setup ## run both tutorial notebooks and write their outputs into them
	$(PYTHON) docs/run_tutorial.py

# The page of `make demo`'s run is in the site if the run is there.
DEMO = $(if $(wildcard $(RUN)/weights.h5),.venv-site/demo)
site: $(if $(wildcard $(RUN)/weights.h5),web) ## write docs, tutorial and the page of `make demo`'s run as a site with search (CPython 3.11 to 3.13)
	@sh newer_python.sh .venv-site requirements-site.txt
	$(if $(DEMO),rm -rf $(DEMO) && $(PYTHON) export.py --format web $(RUN) $(DEMO))
	.venv-site/bin/python docs/build_site.py site $(DEMO)

browser: ## install Chromium for the tests of the pages, from Debian's packages (as root)
	command -v chromium > /dev/null || { apt-get -qq update && apt-get -qq install -y chromium chromium-driver; }

settings-page: setup ## write docs/settings.md from the table in settings.py
	$(PYTHON) docs/settings_page.py

image: ## build the container image
	$(DOCKER) build --target run -t $(IMAGE) .

# PIP_CONFIG_FILE ignores the package index of the user. pip-compile writes the two options in an order in which the second
# cancels the first, so sed writes them.
COMPILE = env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE=/dev/null CUSTOM_COMPILE_COMMAND='make lock' \
	.venv/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links
lock: setup ## write requirements*.txt and the pins of environment.yml from requirements*.in
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/pip install -qq pip==21.3.1 setuptools==59.6.0 wheel==0.37.1
	env PIP_CONFIG_FILE=/dev/null .venv/lock/bin/pip install -qq pip-tools==6.4.0 click==8.0.4 pep517==0.13.1
	for name in requirements-pip requirements requirements-dev requirements-onnx requirements-serve \
	    requirements-distributed requirements-tutorial requirements-align; do \
	    $(COMPILE) --output-file $$name.txt $$name.in || exit 1; \
	done
	sed -i '0,/^[a-z]/s/^\([a-z]\)/--only-binary :all:\n--no-binary gast,jieba,termcolor\n\n\1/' requirements.txt requirements-dev.txt
	sed -i '/- pip:/q' environment.yml
	sed -n 's/^\([a-z][^ ]*==[^ ]*\) .*/      - \1/p' requirements.txt >> environment.yml

# With pip-tools 7.5.3 in CPython 3.11, the oldest that these two take: PIP_COMPILE names its pip-compile.
PIP_COMPILE = pip-compile
lock-newer: ## write the locks of `make keras3` and `make site` from their .in files (needs pip-tools in CPython 3.11)
	for name in requirements-keras3 requirements-site; do \
	    env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL -u PIP_CONSTRAINT PIP_CONFIG_FILE=/dev/null \
	    CUSTOM_COMPILE_COMMAND='make lock-newer' $(PIP_COMPILE) --quiet --generate-hashes --allow-unsafe \
	    --no-emit-index-url --no-emit-find-links --strip-extras --output-file $$name.txt $$name.in || exit 1; \
	done

clean: ## remove .venv and the files of the tests, but not runs/
	rm -rf .venv .bootstrap .setup.lock .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
