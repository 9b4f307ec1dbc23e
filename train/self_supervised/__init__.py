"""Self-distillation of image towers on films alone: DINO, iBOT and KoLeo (DINOv2, arXiv 2304.07193)."""
