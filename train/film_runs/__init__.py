"""What runs on films alone share, whatever is learnt from them: films, crops, probes, trainer and record."""
