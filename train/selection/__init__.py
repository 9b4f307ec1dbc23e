"""Which pairs are trained on: rules, the curator that applies them, and what it chose."""
