"""Findings from English report text by rules: `extract_findings`; measured by `python -m data_scripts.extraction`."""

from data_scripts.extraction.rules import (
    ABNORMALITY_NAMES,
    FINDING_NAMES,
    NO_FINDING,
    extract_findings,
    judge_sentence,
    present_abnormalities,
    report_labels,
    report_text,
    split_sentences,
)

__all__ = [
    "ABNORMALITY_NAMES",
    "FINDING_NAMES",
    "NO_FINDING",
    "extract_findings",
    "judge_sentence",
    "present_abnormalities",
    "report_labels",
    "report_text",
    "split_sentences",
]
