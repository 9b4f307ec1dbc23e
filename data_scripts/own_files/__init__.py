"""A group's own films: what the loader `folder` is made of."""
