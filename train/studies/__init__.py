"""Studies: YAML files of many runs (`*.yaml` here), and what reads and runs them; the command is `train.study`."""
