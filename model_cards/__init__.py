"""Model cards filled from what was measured: templates, and the code that fills them from the files of a run."""
