"""Runs of `train.adapt` side by side: methods over shares of the labels, on the same films."""
