"""Masked autoencoding of ViTs on films alone (MAE, arXiv 2111.06377; for chest films arXiv 2210.12843)."""
