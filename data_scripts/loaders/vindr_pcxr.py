"""VinDr-PCXR: 9,125 frontal films of children under ten from a hospital in Hanoi, with labels and boxes.

Layout: as in `data_scripts.reading.vindr`, with the tables in the raw folder. One radiologist read each film.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_scripts.reading.vindr import NO_FINDING, Corpus, Options, read_corpus
from data_scripts.schema import Record, Skipped, Source

__all__ = ["LABELS", "SOURCE", "Options", "read_records"]

SOURCE = Source(
    name="vindr_pcxr",
    title="VinDr-PCXR",
    version="1.0.0",
    url="https://physionet.org/content/vindr-pcxr/1.0.0/",
    licence="PhysioNet Restricted Health Data License; no redistribution",
    access="registration",
    expected={"train": 7_728, "test": 1_397},
    traps=(
        "Labels are diagnoses of the whole film; boxes are of 36 findings under other names, which only masks hold.",
        "Misspelt names (Brocho-pneumonia, Diagphramatic hernia ...) are written correctly in the dataset.",
        "Rare diagnoses have no positive test film, so no AUROC: Pleuropneumonia and Lung tumor among them.",
        "The reports are synthesised from the labels.",
        "There are no patient ids: films of one patient may be in training and validation.",
        "Children only: not to be mixed with adults unawares.",
    ),
)

#: Names of the labels by their columns, whose typing errors are the publisher's.
LABELS = {
    "No finding": NO_FINDING,
    "Bronchitis": "Bronchitis",
    "Brocho-pneumonia": "Bronchopneumonia",
    "Other disease": "Other disease",
    "Bronchiolitis": "Bronchiolitis",
    "Situs inversus": "Situs inversus",
    "Pneumonia": "Pneumonia",
    "Pleuro-pneumonia": "Pleuropneumonia",
    "Diagphramatic hernia": "Diaphragmatic hernia",
    "Tuberculosis": "Tuberculosis",
    "Congenital emphysema": "Congenital emphysema",
    "CPAM": "CPAM (congenital pulmonary airway malformation)",
    "Hyaline membrane disease": "Hyaline membrane disease",
    "Mediastinal tumor": "Mediastinal tumor",
    "Lung tumor": "Lung tumor",
}
#: Typing errors among the boxed findings.
FINDINGS = {"Diffuse aveolar opacity": "Diffuse alveolar opacity", "Bronchectasis": "Bronchiectasis"}
# All films are frontal; whether PA or AP is not told.
CORPUS = Corpus(SOURCE.name, LABELS, FINDINGS, view="UNKNOWN")


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    return read_corpus(raw, CORPUS, options)
