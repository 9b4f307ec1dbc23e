"""Adapting a pretrained tower to findings, structures or reports: `accelerate launch -m train.adapt RECIPE.yaml`."""
