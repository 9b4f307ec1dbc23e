"""Questions that a careful colleague would ask of a prepared folder: `python -m data_scripts.check DIR`."""
