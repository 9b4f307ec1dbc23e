"""Finished runs side by side: what each selection cost, what it gave, and how far it is from a reference."""
