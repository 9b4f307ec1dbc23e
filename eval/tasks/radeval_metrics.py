"""The bridge to RadEval (package `radeval`, Xu et al., EMNLP 2025 System Demonstrations): its figures, by its names.

It needs `pip install radeval` (2.0 or later; brings torchvision). References and generated reports go to it as they
are, and nothing goes to the network: what a metric would fetch has to be there. BLEU and ROUGE need none. They are
not our figures: that BLEU is of the COCO caption tools, on all that stands between spaces, with capitals and signs, and
that ROUGE is of rouge-score with stems of words.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Sequence

from eval.tasks.optional_text_metrics import offline

RADEVAL = "radeval"
INSTALL = "pip install radeval"
#: The name that radeval 2.2.1 had before, and by which its RadGraph still imports it.
_FORMER_NAME = "RadEval"
_FETCH = (
    f"python -c \"import sys, {RADEVAL}; sys.modules['{_FORMER_NAME}'] = {RADEVAL}; "
    f"{RADEVAL}.RadEval(metrics=['{{name}}'])\""
)


def check_radeval() -> str:
    """The version of the package.

    Raises:
        ValueError: it is not there, or older than its present interface.
    """
    if importlib.util.find_spec(RADEVAL) is None:
        raise ValueError(f"--radeval_metrics: the package {RADEVAL} is not installed: {INSTALL}")
    version = importlib.metadata.version(RADEVAL)
    if int(version.split(".")[0]) < 2:
        raise ValueError(f"--radeval_metrics: {RADEVAL} {version} has another interface: {INSTALL} --upgrade")
    return version


class RadEvalMetrics:
    """Metrics of RadEval, loaded once.

    Args:
        names: as RadEval calls them ("bleu", "rouge", "radgraph", "f1chexbert" ...).

    Raises:
        ValueError: the package is missing or old, it has no such metric, or cannot load one without the network.
    """

    def __init__(self, names: Sequence[str]):
        self.version = check_radeval()
        self.names = list(names)
        with _alone():
            import radeval

            sys.modules.setdefault(_FORMER_NAME, radeval)
            self._metrics = {name: _load(radeval.RadEval, name) for name in names}

    @property
    def description(self) -> str:
        return (
            f"RadEval {self.version} (package {RADEVAL}): {', '.join(self.names)}, by its names, with its own cleaning "
            "of texts and its rounding to four digits, without intervals"
        )

    def __call__(self, generated: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """Its figures by its names, of the whole corpus.

        Raises:
            ValueError: a metric fails, or gives something else than numbers.
        """
        figures: dict[str, float] = {}
        with _alone():
            for name, metric in self._metrics.items():
                try:
                    figures |= {key: float(value) for key, value in metric(list(references), list(generated)).items()}
                # Whatever its authors and those of its metrics chose.
                except Exception as error:
                    raise ValueError(_told(name, error)) from error
        return figures


def _load(radeval: type, name: str):
    try:
        return radeval(metrics=[name], show_progress=False)
    except Exception as error:
        if name in str(error) and "Available" in str(error):
            raise ValueError(f"--radeval_metrics: {error}") from error
        raise ValueError(_told(name, error)) from error


def _told(name: str, error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip(" *")), "")
    return (
        f"--radeval_metrics {name} cannot be computed without the network ({type(error).__name__}: {first}). Where "
        f"weights are missing, fetch them once with it: {_FETCH.format(name=name)}"
    )


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Without the network; the warnings that RadEval silences for the whole process stay as they were."""
    with offline(), warnings.catch_warnings():
        yield
