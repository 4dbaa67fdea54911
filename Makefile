# `make demo` shows the whole path, `make test` checks it; both set up .venv first.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)

.PHONY: demo test check seeds gallery clean

demo: $(VENV)/.installed
	$(RUN) -m data.sample
	$(RUN) train.py --backbone darknet53 --cl-splits 3
	$(RUN) val.py --map
	$(RUN) val.py --localise --images 40
	$(RUN) detect.py
	$(RUN) export.py
	@echo
	@cat "$$(dirname "$$(ls -t runs/val/*/summary.txt | head -n 1)")/summary.txt"
	@echo "where the features look: $$(ls -t runs/val/*/report.html | head -n 1)"
	@echo "detections drawn in $$(ls -td runs/detect/*/ | head -n 1)"

# As many test processes as cores, of one thread each.
test: $(VENV)/.installed-dev check
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist loadfile

check: $(VENV)/.installed-dev
	$(RUN) -m compileall -q train.py val.py detect.py export.py models data engine localisation localisers studies study.py utils benchmarks tests
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# The demo's training and evaluation with three seeds: results/sample_seeds.md.
seeds: $(VENV)/.installed
	for seed in 0 1 2; do \
	  $(RUN) train.py --backbone darknet53 --cl-splits 3 --seed $$seed --name seed$$seed && \
	  $(RUN) val.py --map --json results/sample_seed$$seed.json || exit; \
	done
	$(RUN) -m benchmarks.spread results/sample_seed*.json > results/sample_seeds.md

# A recipe with three seeds: accuracy of every stage on held-out images, mean and spread, in results/. Started again
# after a stop, it goes on where it was.
SEEDS := 0 1 2
study-%: configs/%.yaml $(VENV)/.installed
	for seed in $(SEEDS); do \
	  folder=runs/train/$*_seed$$seed; \
	  if [ -e $$folder/metrics.json ]; then continue; fi; \
	  if [ -e $$folder ]; then $(RUN) train.py --resume $$folder; \
	  else $(RUN) train.py --recipe $< --seed $$seed --name $*_seed$$seed; fi || exit; \
	done
	$(RUN) val.py --accuracy --weights $(SEEDS:%=runs/train/$*_seed%/weights/backbone_*.pt) \
	  --json results/$*.json --report results/$*.md

# Where the features of that study's networks look: results/%_maps.md, and a page beside it. 10,000 resamples.
localise-%: study-%
	$(RUN) val.py --localise --weights $(SEEDS:%=runs/train/$*_seed%/weights/backbone_cl*.pt) \
	  $(SEEDS:%=runs/train/$*_seed%/weights/backbone_e2e*.pt) --percentile auto --lime 100 --regions \
	  --bootstrap 10000 --report results/$*_maps.md

# A recipe's detector from cascaded, end-to-end and random weights, three seeds each, beside the ultralytics package's:
# figures of the test split in results/. Started again after a stop, it goes on where it was.
detectors-%: configs/%.yaml $(VENV)/.installed
	mkdir -p results/$*
	for seed in $(SEEDS); do \
	  for start in cascade e2e scratch; do \
	    name=$*_$${start}_seed$$seed; folder=runs/train/$$name; json=results/$*/$${start}_seed$$seed.json; \
	    case $$start in \
	      cascade) flags= ;; \
	      e2e) flags="--baselines= --weights runs/train/$*_cascade_seed$$seed/weights/backbone_e2e_compute.pt" ;; \
	      scratch) flags="--baselines= --cl-splits 0" ;; \
	    esac; \
	    if [ -e $$folder/metrics.json ]; then :; \
	    elif [ -e $$folder ]; then $(RUN) train.py --resume $$folder; \
	    else $(RUN) train.py --recipe $< --seed $$seed --name $$name $$flags; fi || exit; \
	    [ -e $$json ] || $(RUN) val.py --map --weights $$folder/weights/best.pt --json $$json || exit; \
	  done; \
	done
	[ -e results/$*/ultralytics.json ] || $(RUN) -m benchmarks.peer --recipe $< --json results/$*/ultralytics.json
	$(RUN) -m benchmarks.spread results/$*/*.json > results/$*.md

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
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall $$(grep opencv requirements.txt)
	$(RUN) -c "import torchvision; torchvision.ops.nms"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt requirements-oracles.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r requirements-oracles.txt
	touch $@

clean:
	rm -rf $(VENV) runs data/sets
