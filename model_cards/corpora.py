"""What a card says of the training data, from the files of a run and the loaders that know the corpora."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from data_scripts import access
from data_scripts.loaders import LOADERS, load_loader
from data_scripts.schema import Source

#: Licences of corpora that the Hub knows by an identifier.
HUB_LICENCES = {
    "CC0-1.0": "cc0-1.0",
    "CC BY 4.0": "cc-by-4.0",
    "CC BY-NC-SA 2.0": "cc-by-nc-sa-2.0",
    "CC BY-NC-ND 4.0": "cc-by-nc-nd-4.0",
}


@dataclass(frozen=True)
class TrainingSource:
    """A corpus that was trained on: pairs or films, how many of them were kept; None where not recorded."""

    name: str
    title: str
    access: str
    licence: str
    pairs: int | None = None
    kept: int | None = None

    @property
    def known_pairs(self) -> int:
        return self.pairs or 0


def known_corpus(name: str) -> Source | None:
    """What the loader of that name knows of its corpus; None for a name that no loader has (a user's own)."""
    return load_loader(name).SOURCE if name in LOADERS else None


def access_of(name: str) -> str:
    """The kind of access of a corpus (`data_scripts.schema.Source`); "own" for a name that no loader has."""
    return access.access_of(name) or "own"


def read_curation(run_dir: Path) -> dict | None:
    """The numbers of the curation report of a run, None where it chose nothing."""
    file = run_dir / "curation_report.json"
    return json.loads(file.read_text()) if file.is_file() else None


def training_sources(names: list[str], counts: dict[str, int], curation: dict | None) -> list[TrainingSource]:
    """The corpora with their numbers of pairs: from the curation report where there is one, else from `counts`."""
    kept = {}
    for group in (curation or {}).get("groups", []):
        if group["title"] == "Source":
            kept = dict(zip(group["names"], group["shares"], strict=True))
    sources = []
    for name in sorted({*names, *counts, *kept}):
        corpus = known_corpus(name)
        share = kept.get(name)
        sources.append(
            TrainingSource(
                name,
                corpus.title if corpus else "own data",
                access_of(name),
                corpus.licence if corpus else "as the owner says",
                share["total"] if share else counts.get(name),
                share["chosen"] if share else None,
            )
        )
    return sources


def population(curation: dict | None) -> list[str]:
    """Who the training pairs are of: a line each for view, sex, age, language and origin of reports, where known."""
    sentences = []
    for group in (curation or {}).get("groups", []):
        if group["title"] in ("View", "Sex", "Age", "Language", "Report origin"):
            totals = [share["total"] for share in group["shares"]]
            parts = [
                f"{name} {100 * total / max(sum(totals), 1):.1f} %"
                for name, total in zip(group["names"], totals, strict=True)
            ]
            sentences.append(f"{group['title']}: {', '.join(parts)}")
    return sentences


def counts_of_folders(folders: list[str], pairs: int) -> dict[str, int]:
    """Training pairs by corpus, from the `summary.json` of prepared folders that are all still there.

    Only where they come to the `pairs` that the run was trained on: a subset or mixture of them has other numbers, and
    so has a folder that was prepared anew. Of a single corpus these are all; of several nothing tells the parts.
    """
    counts: dict[str, int] = {}
    files = [Path(folder) / "summary.json" for folder in folders]
    if not all(file.is_file() for file in files):
        return {}
    for file in files:
        summary = json.loads(file.read_text())
        name = summary.get("source") or summary["loader"]
        counts[name] = counts.get(name, 0) + summary["splits"].get("train", 0)
    if sum(counts.values()) == pairs:
        return counts
    return dict.fromkeys(counts, pairs) if len(counts) == 1 else {}


def hub_licence(sources: list[TrainingSource]) -> dict[str, str]:
    """The licence of a model in the terms of the Hub: ours where all training data may be used by anybody for
    anything, else "other", since the terms of the corpora go with the weights.
    """
    free = all(source.access == "synthetic" or source.licence in ("CC0-1.0", "CC BY 4.0") for source in sources)
    if sources and free:
        return {"license": "apache-2.0"}
    return {"license": "other", "license_name": "terms-of-the-training-data"}
