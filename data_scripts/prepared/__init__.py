"""Prepared folders as training and evaluation read them."""
