"""One module per corpus, named as on the command line; the contract is in `data_scripts.schema`."""
