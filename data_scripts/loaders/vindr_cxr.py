"""VinDr-CXR: 18,000 frontal films of two hospitals in Hanoi, with labels and boxes by radiologists.

Layout: as in `data_scripts.reading.vindr`, with the tables in `annotations/`. Three of 17 readers judged each training
film, five agreed on each test film.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_scripts.reading.vindr import NO_FINDING, Corpus, Options, read_corpus
from data_scripts.schema import Record, Skipped, Source

__all__ = ["LABELS", "SOURCE", "Options", "read_records"]

SOURCE = Source(
    name="vindr_cxr",
    title="VinDr-CXR",
    version="1.0.0",
    url="https://physionet.org/content/vindr-cxr/1.0.0/",
    licence="PhysioNet Credentialed Health Data License; no redistribution",
    access="credentialed",
    expected={"train": 15_000, "test": 3_000},
    traps=(
        "A finding is present if any of the three readers of a training film says so, its mask unites the boxes of all "
        "of them, and `No Finding` needs all three; `readers` and `positive_readers` allow other rules.",
        "Test labels are a consensus, so training and test labels follow different rules.",
        "Boxes are not outlines: their masks cover more than the finding.",
        "The reports are synthesised from the labels: seven absent findings, chosen at random, are left out of each.",
        "There are no patient ids: films of one patient may be in training and validation.",
        "The films of the Kaggle challenge VinBigData are the training films; its train.csv judges 14 findings and has "
        "no labels of test films.",
        "Some films are MONOCHROME1, some are compressed with JPEG 2000.",
    ),
)

#: Names of the labels by their columns. The last but one is spelt in two ways.
LABELS = {
    "Aortic enlargement": "Aortic enlargement",
    "Atelectasis": "Atelectasis",
    "Calcification": "Calcification",
    "Cardiomegaly": "Cardiomegaly",
    "Clavicle fracture": "Clavicle fracture",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
    "Emphysema": "Emphysema",
    "Enlarged PA": "Enlarged PA (pulmonary artery)",
    "ILD": "ILD (interstitial lung disease)",
    "Infiltration": "Infiltration",
    "Lung Opacity": "Lung Opacity",
    "Lung cavity": "Lung cavity",
    "Lung cyst": "Lung cyst",
    "Mediastinal shift": "Mediastinal shift",
    "Nodule/Mass": "Nodule/Mass",
    "Pleural effusion": "Pleural effusion",
    "Pleural thickening": "Pleural thickening",
    "Pneumothorax": "Pneumothorax",
    "Pulmonary fibrosis": "Pulmonary fibrosis",
    "Rib fracture": "Rib fracture",
    "Other lesion": "Other lesion",
    "COPD": "COPD (chronic obstructive pulmonary disease)",
    "Lung tumor": "Lung tumor",
    "Pneumonia": "Pneumonia",
    "Tuberculosis": "Tuberculosis",
    "Other diseases": "Other diseases",
    "Other disease": "Other diseases",
    "No finding": NO_FINDING,
}
#: The classes of Kaggle's challenge.
BOXED = (
    *("Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "ILD", "Infiltration"),
    *("Lung Opacity", "Nodule/Mass", "Other lesion", "Pleural effusion", "Pleural thickening", "Pneumothorax"),
    *("Pulmonary fibrosis", "No finding"),
)
CORPUS = Corpus(SOURCE.name, LABELS, LABELS, view="PA", dropped_negatives=7, boxed=BOXED)


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    return read_corpus(raw, CORPUS, options)
