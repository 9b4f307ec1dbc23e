"""The README of a prepared dataset, filled from its summary; never from a report or an id."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData

from data_scripts.schema import Source

_TEMPLATE = """---
{{ card_data }}
---
# {{ source.title }}, prepared for CheXficient

Version {{ source.version }}, from {{ source.url }}. Licence: {{ source.licence }}. Access: {{ source.access }}.
{% if source.access in ("credentialed", "registration", "own") %}
**This folder must not be passed on**: the terms of the corpus forbid it.
{% endif %}
{% if summary.limit %}
**A trial**: the first {{ "{:,}".format(summary.limit) }} records only.
{% endif %}
| split | images |
|---|---:|
{% for split, count in summary.splits.items() -%}
| {{ split }} | {{ "{:,}".format(count) }} |
{% endfor %}
{% if summary.split_lists -%}
Splits by lists of films: {% for split, list in summary.split_lists.items() -%}
{{ split }} {{ list.file }}{{ ", " if not loop.last else "." }}
{%- endfor %}
{% elif summary.split_counts %}
Splits sampled by patient, not those of the corpus.
{% endif %}
{{ "{:,}".format(summary.read) }} records were read and {{ "{:,}".format(summary.skipped) }} skipped (listed with
reasons in `skipped.jsonl`). Images: {{ "original size" if summary.image_size == 0 else
"short side and centre crop to %d px, bicubic" % summary.image_size }}, eight bits, lossless
({{ summary.compression }} PNG).{% if summary.reduced_decoding %} Large JPEG and JPEG 2000 were decoded at a part of
their size: greys differ a little from what the model's processor makes of the originals.
{%- endif %} Text: {% for origin, count in summary.origins.items() -%}
{{ origin }} {{ "{:,}".format(count) }}{{ ", " if not loop.last else "." }}
{%- endfor %}
{% if summary.masks %}
Masks: {% for name, count in summary.masks.items() -%}
{{ name }} {{ "{:,}".format(count) }}{{ ", " if not loop.last else "." }}
{%- endfor %} They hold 0 (outside), 255 (inside) and 127 (not judged).
{% endif %}
{% if summary.patients_across_splits %}
**{{ "{:,}".format(summary.patients_across_splits) }} patients have films in several splits.**
{% endif %}
{% for kind, count in summary.broken.items() -%}
{{ "{:,}".format(count) }}: {{ kind }} (column `quality`).
{% endfor %}
{% for kind, found in summary.duplicates.items() -%}
Duplicates ({{ kind }}): {{ "{:,}".format(found.films) }} films in {{ "{:,}".format(found.groups) }} groups;
{{ "{:,}".format(found.across_splits) }} groups cross splits, {{ "{:,}".format(found.across_patients) }} patients.
{% endfor %}
Checksums (SHA-256) of the Parquet files are in `summary.json`. `.prepare/`, `skipped.jsonl` and `duplicates.json` name
raw files or ids: they are for the owner of the raw data.

{% if summary.drop_priors -%}
Comparisons with earlier films were taken out of training reports by rules: {{ summary.drop_priors.get("changed", 0) }}
sentences changed, {{ summary.drop_priors.get("left out", 0) }} left out, {{ summary.drop_priors.get("kept", 0) }} kept.
{% endif %}
{% if summary.extract_labels -%}
Where a record came without labels, they were read from its English report by rules: expect errors.
{% endif %}
| label | present | absent | uncertain |
|---|---:|---:|---:|
{% for name in labels -%}
| {{ name }} | {{ summary.positives.get(name, 0) }} | {{ summary.negatives.get(name, 0) }} | {{
summary.uncertain.get(name, 0) }} |
{% endfor %}
{% for trap in source.traps -%}
- {{ trap }}
{% endfor %}
Made by `python -m data_scripts.prepare {{ summary.loader }}`, script version {{ summary.version }}.
"""


def write_card(out: Path, source: Source, summary: dict) -> None:
    """Write `README.md`.

    It names no `configs`: the splits follow from the names of the files, and with `configs` the cache of
    `load_dataset` takes two folders of one name for the same data (datasets 5.2).
    """
    data = DatasetCardData(pretty_name=source.title, tags=["chest-x-ray", "radiology"])
    labels = list(dict.fromkeys([*summary["positives"], *summary["negatives"], *summary["uncertain"]]))
    card = DatasetCard.from_template(data, template_str=_TEMPLATE, source=source, summary=summary, labels=labels)
    card.save(out / "README.md")
