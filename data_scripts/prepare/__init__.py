"""From a corpus as downloaded to a prepared folder: `python -m data_scripts.prepare`, or `prepare` of a program."""

from data_scripts.prepare.arguments import PrepareArguments

__all__ = ["PrepareArguments", "prepare"]


def __getattr__(name: str):
    """`prepare` when it is asked for (PEP 562): a `--help` does not wait for what it imports."""
    if name == "prepare":
        from data_scripts.prepare.dataset import prepare

        return prepare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
