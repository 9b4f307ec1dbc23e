"""What curation chose, made visible: one page that needs no network, and the same numbers as JSON."""
