"""Precision and recall of the extractor on the reports of Open-I against their MeSH headings.

The headings are what indexers thought worth finding the report by, not a reading of every sentence: a finding that is
written but not indexed counts against precision, one inferred from other words against recall.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from data_scripts.extraction.rules import PRESENT, UNCERTAIN, extract_findings, report_text
from data_scripts.loaders.open_i import MESH_LABELS, Report, read_reports
from data_scripts.schema import Skipped

#: Reports with an even number are for work on the rules, the others for the figures that count.
HALVES = ("even", "odd")


@dataclass(frozen=True)
class Agreement:
    """Counts of one finding over reports: indexed and told, told alone, indexed alone."""

    both: int
    told_only: int
    indexed_only: int

    @property
    def precision(self) -> float:
        return self.both / max(self.both + self.told_only, 1)

    @property
    def recall(self) -> float:
        return self.both / max(self.both + self.indexed_only, 1)

    @property
    def f1(self) -> float:
        return 2 * self.both / max(2 * self.both + self.told_only + self.indexed_only, 1)


def read_half(raw: Path, half: str) -> list[Report]:
    """The reports of even or odd number."""
    reports = [report for report in read_reports(raw) if not isinstance(report, Skipped)]
    return [report for report in reports if int(report.uid.removeprefix("CXR")) % 2 == HALVES.index(half)]


def measure(reports: list[Report], uncertain_is_present: bool = True) -> dict[str, Agreement]:
    """The agreement of text and headings by finding, over the reports that were indexed."""
    counts = {name: Counter() for name in MESH_LABELS}
    told_values = (PRESENT, UNCERTAIN) if uncertain_is_present else (PRESENT,)
    for report in reports:
        found = extract_findings(report_text(report.findings, report.impression))
        for label in report.labels:
            counts[label.name][(label.value == 1, found.get(label.name) in told_values)] += 1
    return {
        name: Agreement(count[True, True], count[False, True], count[True, False]) for name, count in counts.items()
    }


def count_sections(reports: list[Report]) -> dict[str, int]:
    """How many reports have which sections."""
    return {
        "reports": len(reports),
        "findings": sum(bool(report.findings.strip()) for report in reports),
        "impression": sum(bool(report.impression.strip()) for report in reports),
        "both": sum(bool(report.findings.strip() and report.impression.strip()) for report in reports),
        "neither": sum(not (report.findings.strip() or report.impression.strip()) for report in reports),
        "indexed": sum(bool(report.labels) for report in reports),
    }


def format_table(agreements: dict[str, Agreement]) -> str:
    """A Markdown table, and the micro and macro averages over the findings that occur."""
    lines = ["| finding | indexed | precision | recall | F1 |", "|---|---:|---:|---:|---:|"]
    occurring = {name: agreement for name, agreement in agreements.items() if agreement.both + agreement.indexed_only}
    for name, agreement in agreements.items():
        indexed = agreement.both + agreement.indexed_only
        precision = (
            f"{agreement.precision:.2f} ({agreement.both}/{agreement.both + agreement.told_only})"
            if agreement.both + agreement.told_only
            else "-"
        )
        recall = f"{agreement.recall:.2f} ({agreement.both}/{indexed})" if indexed else "-"
        lines.append(f"| {name} | {indexed} | {precision} | {recall} | {f'{agreement.f1:.2f}' if indexed else '-'} |")
    total = Agreement(
        *(sum(getattr(agreement, n) for agreement in agreements.values()) for n in Agreement.__annotations__)
    )
    lines.append(
        f"| all, micro | {total.both + total.indexed_only} | {total.precision:.2f} | {total.recall:.2f} "
        f"| {total.f1:.2f} |"
    )
    macro = sum(agreement.f1 for agreement in occurring.values()) / max(len(occurring), 1)
    lines.append(f"| macro over {len(occurring)} findings that occur | | | | {macro:.2f} |")
    return "\n".join(lines)
