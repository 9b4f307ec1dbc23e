"""Finished and evaluated runs side by side, as cells over arms and, of adaptations, shares of the labels."""
