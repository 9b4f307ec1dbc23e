"""Thresholds and calibrated probabilities, chosen on films of known truth and checked on others."""
