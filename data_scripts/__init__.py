"""Raw chest X-ray corpora to one schema: loaders, report text, preparation, the synthetic corpus."""
