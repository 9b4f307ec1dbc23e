"""Models behind one interface, so that one runner evaluates all of them."""
