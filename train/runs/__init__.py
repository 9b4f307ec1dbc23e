"""What every training run shares: its trainer, checkpoints, cost, recipes and processes."""
