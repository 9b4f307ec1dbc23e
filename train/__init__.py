"""Curated contrastive pretraining: selection, sampler, objective, trainer and the entry points."""
