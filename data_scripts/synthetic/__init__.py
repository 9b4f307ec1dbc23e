"""Synthetic chest X-rays: procedurally rendered frontal films with findings, devices, masks and short reports.

They look like chest films and are none: shapes, frequencies and wording are invented to try out training, curation
and evaluation without any patient's data. Nothing measured on them supports a clinical conclusion.

Film number `index` is a pure function of (options, index)::

    case = make_case(17, SyntheticOptions(seed=1))
    film, masks = draw_film(case, 112)
    findings, impression = write_report(case)
"""

from .case import Case, Present, make_case
from .film import draw_film
from .findings import FINDINGS, expected_prevalence
from .options import SyntheticOptions
from .reports import write_report

__all__ = [
    "FINDINGS",
    "Case",
    "Present",
    "SyntheticOptions",
    "draw_film",
    "expected_prevalence",
    "make_case",
    "write_report",
]
