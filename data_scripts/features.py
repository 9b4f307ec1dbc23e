"""The columns of prepared data, and the row of a record in them.

Apart from the schema, which every loader and so every `--help` imports: `datasets` takes a second.
"""

from __future__ import annotations

from datasets import Features, Image, List, Value

from data_scripts.schema import Record

FEATURES = Features(
    {
        # Unique over the corpus: "<source>/<the corpus's own image key>".
        "record_id": Value("string"),
        "image": Image(),
        # The sections as written; empty where the report has none.
        "findings": Value("string"),
        "impression": Value("string"),
        # The training text: findings, a space, impression (algorithm of arXiv 2602.22843).
        "report": Value("string"),
        "report_origin": Value("string"),
        "language": Value("string"),
        # 1 present, 0 absent, -1 uncertain; a finding nobody judged is not listed. Where several readers
        # judged it, how many did and how many said present.
        "labels": List(
            {
                "name": Value("string"),
                "value": Value("int8"),
                "readers": Value("int16"),
                "positive_readers": Value("int16"),
            }
        ),
        # Named masks of the size of the image: 255 inside, 0 outside, 127 not judged; structures may overlap.
        "masks": List({"name": Value("string"), "image": Image()}),
        # Measures of the pixels that tell broken films (`FilmQuality` of the input check); None without a film.
        "quality": {"flat_share": Value("float32"), "neighbour_correlation": Value("float32")},
        # Known defects of the record, for studies of curation: "wrong_report", "broken_image", "near_duplicate".
        "flags": List(Value("string")),
        "patient_id": Value("string"),
        "study_id": Value("string"),
        "view": Value("string"),
        "split": Value("string"),
        "source": Value("string"),
        "sex": Value("string"),
        "age_years": Value("float32"),
        # The licence of this image where it differs from its corpus's.
        "licence": Value("string"),
    }
)


def to_row(record: Record) -> dict:
    """The record as a row of `FEATURES`, without its image and masks."""
    row = {name: getattr(record, name) for name in FEATURES if name not in ("image", "masks", "labels", "quality")}
    row["labels"] = [vars(label) for label in record.labels]
    return row
