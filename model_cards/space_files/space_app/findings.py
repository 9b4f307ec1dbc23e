"""Findings by prompt, ranks among reference films, and nearest reports: pure functions on unit vectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

MAX_FINDINGS = 60
MAX_PROMPT = 300


@dataclass(frozen=True)
class Finding:
    """What to look for: a name and the two texts that a film with and without it would be described by."""

    name: str
    positive: str
    negative: str


def parse_findings(text: str, positive: str = "{}", negative: str = "no {}") -> list[Finding]:
    """One finding per line: "Edema", or with a pair of its own, "Edema: pulmonary oedema | clear lungs".

    Args:
        text: the lines; blank ones and repetitions of a name are left out.
        positive, negative: templates with one {} for the name of findings that have no pair.

    Raises:
        ValueError: no finding, more than 60, a malformed pair (its line is numbered), a template without {}, or a
            text of more than 300 letters.
    """
    for template in (positive, negative):
        if template.count("{}") != 1:
            raise ValueError(f"A template needs one {{}} where the finding goes, and {template!r} has not.")
    findings: dict[str, Finding] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            finding = _parse_line(number, line.strip(), positive, negative)
            findings.setdefault(finding.name.lower(), finding)
    if not findings:
        raise ValueError("There is no finding to look for: write at least one, each on a line of its own.")
    if len(findings) > MAX_FINDINGS:
        raise ValueError(f"{len(findings)} findings are too many: at most {MAX_FINDINGS}.")
    return list(findings.values())


def _parse_line(number: int, line: str, positive: str, negative: str) -> Finding:
    if len(line) > MAX_PROMPT:
        raise ValueError(f"Line {number} has {len(line)} letters: at most {MAX_PROMPT}.")
    name, colon, pair = (part.strip() for part in line.partition(":"))
    if not colon:
        return Finding(name, positive.replace("{}", name), negative.replace("{}", name))
    prompts = [part.strip() for part in pair.split("|")]
    if not name or len(prompts) != 2 or not all(prompts):
        raise ValueError(f'Line {number} is not "finding: text with it | text without it".')
    return Finding(name, *prompts)


def two_prompt_scores(images: Tensor, prompts: Tensor) -> Tensor:
    """Cosine with the positive prompt minus that with the negative one, [films, findings].

    It orders films by one finding, as the two-class softmax of the published evaluation does (arXiv 2602.22843).
    It is no probability, and scores of two findings cannot be compared.

    Args:
        images: [films, D] of unit length.
        prompts: [findings, 2, D] of unit length: positive, negative.
    """
    return images @ (prompts[:, 0] - prompts[:, 1]).t()


def rank_among(scores: Tensor, reference: Tensor) -> Tensor:
    """Share of reference films that score lower, [findings] within [0, 1]; an equal one counts half.

    Args:
        scores: [findings] of one film.
        reference: [films, findings], at least one film.
    """
    lower = (reference < scores).float().mean(0)
    return lower + (reference == scores).float().mean(0) / 2


def nearest(image: Tensor, texts: Tensor, count: int) -> list[tuple[int, float]]:
    """(row, cosine) of the `count` nearest of `texts` [n, D] to one film [D], the nearest first."""
    values, rows = (texts @ image).topk(min(count, len(texts)))
    return list(zip(rows.tolist(), values.tolist(), strict=True))
