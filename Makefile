# `make demo` shows the whole path, `make test` checks it; both set up .venv first.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)

.PHONY: install demo test guides check docs reference gallery clean

install: $(VENV)/.installed

demo: $(VENV)/.installed
	$(RUN) -m data.sample
	$(RUN) train.py --backbone darknet53 --cl-splits 3
	$(RUN) val.py --map
	$(RUN) val.py --localise --view pictures --images 40
	$(RUN) detect.py
	$(RUN) export.py
	@echo
	@cat "$$(dirname "$$(ls -t runs/val/*/summary.txt | head -n 1)")/summary.txt"
	@echo "where the features look: $$(ls -t runs/val/*/report.html | head -n 1)"
	@echo "detections drawn in $$(ls -td runs/detect/*/ | head -n 1)"

# As many test processes as cores, of one thread each.
test: $(VENV)/.installed-dev check docs
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n logical --dist worksteal

# Every command of the guides on small data: a quarter of an hour or more.
guides: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n logical --dist worksteal -m guides tests/test_guides.py

check: $(VENV)/.installed-dev
	$(RUN) -m compileall -q train.py val.py detect.py export.py models data training evaluation deployment maps wsol studies study.py utils benchmarks tests
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# The site, in site/; a warning or a dead link is an error.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet
	$(RUN) docs/readability.py

# Pages that are made from the code: after a change of flags, recipe keys or tables.
reference: $(VENV)/.installed
	$(RUN) -m studies.reference names > .names.json && mv .names.json utils/names.json
	$(RUN) -m studies.reference > docs/reference.md
	$(RUN) -m studies.reference_flags flags > .flags.md && mv .flags.md docs/flags.md
	$(RUN) -m studies.reference_flags recipe > .keys.md && mv .keys.md docs/recipe_keys.md

# Keeps what the newest demo run gave: results/sample.
gallery:
	mkdir -p results/sample
	cd "$$(dirname "$$(ls -t runs/val/*/summary.txt | head -n 1)")" && cp predictions.jpg pr_curve.png confusion_matrix.png summary.txt metrics.json "$(CURDIR)/results/sample"
	cd "$$(ls -td runs/train/*/ | head -n 1)" && cp pretrain.csv results.csv "$(CURDIR)/results/sample"

$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11, 4) or sys.exit("older than Python 3.11.4: make PYTHON=…/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	# ultralytics asks for the OpenCV build that needs a desktop's libraries; the headless one takes its place.
	$(VENV)/bin/pip uninstall --quiet --yes opencv-python
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall $$(grep opencv requirements.txt)
	$(RUN) -c "import torchvision; torchvision.ops.nms"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt requirements-docs.txt requirements-oracles.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r requirements-oracles.txt
	touch $@

clean:
	rm -rf $(VENV) runs data/sets
