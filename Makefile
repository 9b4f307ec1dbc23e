# `make demo` and `make test` are all a fresh machine needs; both set up the environment once.
VENV ?= .venv
PY := $(VENV)/bin/python
# Everything runs offline: without this, the libraries would try the Hub first.
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false


.PHONY: demo study suite adaptations benchmark test test-slow lint format install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(PY) -m pip install --quiet --editable ".[dev]"
	touch $@

# Synthetic corpus -> curated pretraining -> zero-shot evaluation -> card, all under runs/demo.
DEMO := runs/demo
demo: install
	$(PY) -m data_scripts.prepare synthetic --out $(DEMO)/data --image_size 112 --num_records 50000 \
		--validation_share 0.02 --test_share 0.06
	$(PY) -m train.pretrain train/recipes/demo.yaml
	$(PY) -m eval.run --model $(DEMO)/model --data $(DEMO)/data
	$(PY) -m model_cards.render $(DEMO)
	@echo "checkpoint: $(DEMO)/model"
	@echo "picture:    $(DEMO)/results/zero_shot_findings.png"

# Cells of a study that run at a time; they share the cores.
JOBS ?= 1
# Selections from one base model at equal FLOP, evaluated side by side, in small (`make study JOBS=2`: under an hour on two
# cores); train/studies/selection.yaml is the same question with every arm, five seeds and 60,000 films.
study: install
	$(PY) -m train.study train/studies/selection_small.yaml --jobs $(JOBS)

# The five kinds of task on the demo's checkpoint and held-out films; needs `make demo` first (minutes).
suite: install
	$(PY) -m eval.run --model $(DEMO)/model --suite synthetic --data $(DEMO)/data --out $(DEMO)/suite

# Adapters on the demo's checkpoint: findings by method, share of the labels and seed; structures and reports by method.
# Needs `make demo` first; about an hour on one core, `make adaptations JOBS=2` runs two at a time.
adaptations: install
	$(PY) -m train.study train/studies/adaptation.yaml --jobs $(JOBS)

# How fast things are, as ratios within one run (some minutes on two cores): drawing films and reading reports against
# numpy, preparing and loading films against datasets.map, intervals against scikit-learn, bookkeeping of a selection
# against a shuffle, a step of self-distillation against its parts timed apart, our curation step against the published
# one at the size of a small ViT.
benchmark: install
	OMP_NUM_THREADS=1 $(PY) -m data_scripts.speed
	OMP_NUM_THREADS=1 $(PY) -m data_scripts.prepare.speed --films 2 --repeats 2
	OMP_NUM_THREADS=1 $(PY) -m eval.speed --repeats 2
	OMP_NUM_THREADS=1 $(PY) -m train.selection.speed
	OMP_NUM_THREADS=1 $(PY) -m train.self_supervised.speed --repeats 3
	$(PY) -m train.speed --image_size 112 --score_image_size 56 --super_batch_size 48 --text_length 64 --repeats 2 \
		--vision_config '{"model_type": "dinov2", "patch_size": 14, "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}' \
		--text_config '{"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1536}'

# Files of tests are shared out to so many processes.
TEST_PROCESSES := 2
test: install
	$(PY) -m pytest -n $(TEST_PROCESSES) --dist loadfile -m "not slow"

test-slow: install
	$(PY) -m pytest -m slow

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo

format: install
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf runs .pytest_cache .ruff_cache .mypy_cache
