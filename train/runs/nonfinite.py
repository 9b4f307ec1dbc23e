"""What every trainer raises where numbers are no numbers any more."""

from __future__ import annotations


class NonFiniteError(FloatingPointError):
    """NaN or infinity where training cannot go on; names the step, and the samples where they are known."""
