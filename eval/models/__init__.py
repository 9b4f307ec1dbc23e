"""Models behind one interface, so that one runner judges all of them."""
