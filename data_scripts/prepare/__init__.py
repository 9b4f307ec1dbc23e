"""From a corpus as downloaded to a prepared folder: `python -m data_scripts.prepare`."""
