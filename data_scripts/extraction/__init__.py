"""Findings from English report text by rules: `extract_findings`; measured by `python -m data_scripts.extraction`."""

from data_scripts.extraction.rules import (
    FINDING_NAMES,
    NO_FINDING,
    extract_findings,
    judge_sentence,
    report_labels,
    report_text,
    split_sentences,
)

__all__ = [
    "FINDING_NAMES",
    "NO_FINDING",
    "extract_findings",
    "judge_sentence",
    "report_labels",
    "report_text",
    "split_sentences",
]
