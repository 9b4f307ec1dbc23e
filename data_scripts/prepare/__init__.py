"""From a corpus as downloaded to a prepared folder: `python -m data_scripts.prepare`, or `prepare` of a program."""

from data_scripts.prepare.dataset import PrepareArguments, prepare

__all__ = ["PrepareArguments", "prepare"]
