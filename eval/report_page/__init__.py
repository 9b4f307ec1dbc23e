"""One page of a folder of results, with the pictures that people look for."""
