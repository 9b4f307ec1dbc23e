"""Measure the extractor, or show what it makes of a text.

python -m data_scripts.extraction measure --xml OPEN_I_FOLDER [--half even|odd]
python -m data_scripts.extraction show "No effusion. Possible pneumonia."
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from data_scripts.command_line import command_name
from data_scripts.extraction.measure import HALVES, count_sections, format_table, measure, read_half
from data_scripts.extraction.rules import extract_findings, judge_sentence, report_text
from data_scripts.loaders.open_i import read_reports
from data_scripts.schema import DataError, Skipped


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=command_name(), description="Findings from report text.")
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="Precision and recall against the MeSH headings of Open-I.")
    measuring.add_argument("--xml", required=True, help="Folder that holds ecgen-radiology/.")
    measuring.add_argument("--half", choices=HALVES, help="Reports of even or odd number alone.")
    showing = commands.add_parser("show", help="The findings of one text.")
    showing.add_argument("text")
    parsed = parser.parse_args(arguments)
    if parsed.command == "show":
        print(extract_findings(parsed.text))
        return
    try:
        _measure(Path(parsed.xml), parsed.half)
    except DataError as error:
        raise SystemExit(f"error: {error}") from error


def _measure(raw: Path, half: str | None) -> None:
    reports = [read for read in read_reports(raw) if not isinstance(read, Skipped)]
    print("all:", count_sections(reports))
    judge_sentence.cache_clear()
    begin = time.perf_counter()
    for report in reports:
        extract_findings(report_text(report.findings, report.impression))
    seconds = time.perf_counter() - begin
    print(f"{len(reports)} reports in {seconds:.2f} s: {60 * len(reports) / seconds:,.0f} a minute on one core")
    for name in [half] if half else HALVES:
        chosen = read_half(raw, name)
        print(f"\n{name} numbers ({len(chosen)} reports), present or uncertain counts as told")
        print(format_table(measure(chosen)))


if __name__ == "__main__":
    main()
