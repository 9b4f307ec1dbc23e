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

# Every selection from one base model, three seeds each, judged side by side (about an hour on two cores).
STUDY := runs/study
STUDY_SEEDS := 0 1 2
# The arms by name, and how each differs from train/recipes/study.yaml.
STUDY_ARMS := full full_short quantile quantile_short sigma random random_short semdedup small
full := --selection none
full_short := --selection none --num_train_epochs 1
quantile := --selection quantile
sigma := --selection sigma --num_prototypes 32
quantile_short := --selection quantile --num_train_epochs 4
random := --selection random
random_short := --selection random --num_train_epochs 4
semdedup := --selection semdedup
# The cheapest: short, scored and first trained on small images.
small := --selection quantile --num_train_epochs 4 --score_image_size 56 --low_resolution_size 56
STUDY_RUNS := $(foreach seed,$(STUDY_SEEDS),$(foreach arm,$(STUDY_ARMS),$(STUDY)/$(arm)-$(seed)))
study: $(STUDY_RUNS:=/results/zero_shot_findings.json)
	$(PY) -m eval.studies $(STUDY_RUNS) --by num_train_epochs --out $(STUDY)/comparison

$(STUDY)/%/results/zero_shot_findings.json: | $(STUDY)/base/run.json
	$(PY) -m train.pretrain train/recipes/study.yaml --output_dir $(STUDY)/$* \
		$($(word 1,$(subst -, ,$*))) --seed $(word 2,$(subst -, ,$*))
	$(PY) -m eval.run --model $(STUDY)/$*/model --data $(STUDY)/data

# The model all arms start from has seen another corpus, of other drawn patients, and not for long.
$(STUDY)/base/run.json: | install
	$(PY) -m data_scripts.prepare synthetic --out $(STUDY)/base/data --image_size 112 --num_records 30000 --seed 1 \
		--validation_share 0 --test_share 0
	$(PY) -m data_scripts.prepare synthetic --out $(STUDY)/data --image_size 112 --num_records 12500 --seed 2 \
		--validation_share 0 --test_share 0.2
	$(PY) -m train.pretrain train/recipes/demo.yaml --dataset_dir $(STUDY)/base/data --output_dir $(STUDY)/base \
		--selection none --max_steps 400 --disable_tqdm true

# The five kinds of task on the demo's checkpoint and held-out films; needs `make demo` first (minutes).
suite: install
	$(PY) -m eval.run --model $(DEMO)/model --suite synthetic --data $(DEMO)/data --out $(DEMO)/suite

# Adapters on the demo's checkpoint: findings by method, share of the labels and seed; structures and reports by method.
# Needs `make demo` first; about an hour on one core, `make adaptations -j2` runs two at a time.
ADAPTED := runs/adapted
ADAPT = OMP_NUM_THREADS=1 $(PY) -m train.adapt $(1) --model $(DEMO)/model --dataset_dir $(DEMO)/data --use_cpu \
	--disable_tqdm true --output_dir $(@D)
METHODS := lora linear full
STRUCTURES := left_lung right_lung heart "effusion=Pleural Effusion" "tubes=Endotracheal Tube,Nasogastric Tube"
FINDINGS_RUNS := $(foreach seed,0 1 2,$(foreach share,0.01 0.1 1.0,$(foreach method,$(METHODS),$(ADAPTED)/findings/$(method)-$(share)-$(seed))))
STRUCTURES_RUNS := $(foreach method,$(METHODS),$(ADAPTED)/structures/$(method))
adaptations: $(FINDINGS_RUNS:=/run.json) $(STRUCTURES_RUNS:=/run.json) $(ADAPTED)/reports/run.json
	$(PY) -m eval.studies.adaptations $(FINDINGS_RUNS) --out $(ADAPTED)/findings_compared
	$(PY) -m eval.studies.adaptations $(STRUCTURES_RUNS) --out $(ADAPTED)/structures_compared

$(ADAPTED)/findings/%/run.json:
	$(call ADAPT,train/recipes/classification.yaml) --max_steps 200 --eval_steps 50 --augment false \
		--method $(word 1,$(subst -, ,$*)) --label_share $(word 2,$(subst -, ,$*)) --seed $(word 3,$(subst -, ,$*)) \
		$(if $(findstring full,$*),--learning_rate 5e-4)

$(ADAPTED)/structures/%/run.json:
	$(call ADAPT,train/recipes/segmentation.yaml) --max_steps 600 --eval_steps 200 --augment false --learning_rate 3e-3 \
		--method $* --structures $(STRUCTURES)

$(ADAPTED)/reports/run.json:
	$(call ADAPT,train/recipes/report_generation_demo.yaml)

# How fast things are, as ratios within one run (three minutes on two cores): drawing films and reading reports against
# numpy, bookkeeping of a selection against a shuffle, our curation step against the published one at the size of a
# small ViT.
benchmark: install
	OMP_NUM_THREADS=1 $(PY) -m data_scripts.speed
	OMP_NUM_THREADS=1 $(PY) -m train.selection.speed
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
	$(VENV)/bin/lint-imports --no-cache --no-logo

format: install
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf runs .pytest_cache .ruff_cache
