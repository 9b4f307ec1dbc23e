"""Curated contrastive pretraining: `python -m train.pretrain`."""
