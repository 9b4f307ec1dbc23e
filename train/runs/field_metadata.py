"""Keys of a field's metadata that are ours (`train.runs.arguments` says what they mean); the others are argparse's."""

RESUME, RECORDED, UNSET = "resume", "recorded", "unset"
