"""A pretraining run in which even a model that has learnt nothing judges reports (`test_trimming`)."""

import sys

from train.objectives import trimming
from train.pretrain.__main__ import main

trimming.MOST_WRONG = 0.99
main(sys.argv[1:])
