"""A pretraining run in which even a model that has learnt nothing judges reports (`test_discounting`)."""

import sys

from train.objectives import discounting
from train.pretrain.__main__ import main

discounting.MOST_WRONG = 1.0
main(sys.argv[1:])
