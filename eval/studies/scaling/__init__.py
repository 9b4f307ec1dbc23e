"""Error over the number of training films: power laws of one's own runs, and what follows from them."""
