"""A Gradio page of a checkpoint, written as a folder that a Space runs."""
