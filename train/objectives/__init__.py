"""Training objectives, and gradient caching over any of them."""
