"""Complete records of runs that never ran, for tests that need a run folder."""

from eval.records.runs import AdaptRun, PretrainRun

BASE = {"name": "group/base", "revision": "abc", "weights_sha256": "1" * 64, "code_sha256": "2" * 64}


def pretrain_run(**changes) -> PretrainRun:
    values = {
        "seed": 0, "steps": 10, "seconds": 5.0, "settings": {"image_size": 112}, "selection": "none",
        "keep_share_asked": 0.25, "keep_share_reached": 1.0, "corpus_pairs": 1000, "kept_pairs": 1000,
        "schedule": {"num_rows": 1000}, "pairs_trained": 4000, "pairs_scored": 0,
    }  # fmt: skip
    return PretrainRun(**values | changes)


def adapt_run(**changes) -> AdaptRun:
    values = {
        "task": "image-classification", "method": "lora", "base": BASE, "head": {}, "label_share": 1.0, "labels": [],
        "seed": 0, "steps": 10, "seconds": 2.5, "settings": {}, "trainable_parameters": 5, "all_parameters": 50,
        "trainable_share": 0.1, "train_films": 24, "train_patients": 12,
        "validation": {"films": 6, "patients": 3, "metric": "auroc", "value": 0.7}, "best_epoch": 1.0, "best_step": 10,
        "adapter_bytes": 1000,
    }  # fmt: skip
    return AdaptRun(**values | changes)
