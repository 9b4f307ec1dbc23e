# `make demo` and `make test` are all a fresh machine needs; both set up the environment once.
VENV ?= .venv
PY := $(VENV)/bin/python
# Everything runs offline: without this, the libraries would try the Hub first.
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false


.PHONY: demo study test test-slow lint format install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(PY) -m pip install --quiet --editable ".[dev]"
	touch $@

# Synthetic corpus -> curated pretraining -> zero-shot judgement -> card, all under runs/demo.
DEMO := runs/demo
demo: install
	$(PY) -m data_scripts.prepare synthetic --out $(DEMO)/data --image_size 112 --num_records 50000 \
		--validation_share 0.02 --test_share 0.06
	$(PY) -m train.pretrain train/recipes/demo.yaml
	$(PY) -m eval.run --model $(DEMO)/model --data $(DEMO)/data
	$(PY) -m model_cards.render $(DEMO)
	@echo "checkpoint: $(DEMO)/model"
	@echo "picture:    $(DEMO)/results/zero_shot_findings.png"

# The demo's recipe with every selection, three seeds each (about an hour on two cores); needs `make demo` first.
STUDY := runs/study
STUDY_ARMS := quantile sigma random none
STUDY_SEEDS := 0 1 2
STUDY_STEPS := 550
STUDY_RUNS := $(foreach seed,$(STUDY_SEEDS),$(foreach arm,$(STUDY_ARMS),$(STUDY)/$(arm)-$(seed)))
study: $(STUDY_RUNS:=/results/zero_shot_findings.json)
	$(PY) -m eval.compare $(STUDY_RUNS) --out $(STUDY)/comparison

$(STUDY)/%/results/zero_shot_findings.json: | install
	$(PY) -m train.pretrain train/recipes/demo.yaml --dataset_dir $(DEMO)/data --output_dir $(STUDY)/$* \
		--selection $(word 1,$(subst -, ,$*)) --seed $(word 2,$(subst -, ,$*)) \
		--max_steps $(STUDY_STEPS) --num_prototypes $(if $(findstring sigma,$*),32,6) --disable_tqdm true
	$(PY) -m eval.run --model $(STUDY)/$*/model --data $(DEMO)/data

test: install
	$(PY) -m pytest -m "not slow"

test-slow: install
	$(PY) -m pytest -m slow

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: install
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf runs .pytest_cache .ruff_cache
