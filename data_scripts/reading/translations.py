"""Translated reports from a table of the user's: corpora in other languages are used in English by most models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.schema import DataError


@dataclass
class Translations:
    """Arguments of a loader whose reports may be replaced by translations."""

    translations: str | None = field(
        default=None,
        metadata={
            "help": "Table with translated reports, relative to the raw folder; without it the text stays as it is."
        },
    )
    translation_key: str | None = field(
        default=None,
        metadata={"help": "Its column with the corpus's own key; the loader's default is in its docstring."},
    )
    translation_column: str = field(default="Report_English", metadata={"help": "Its column with the text."})
    translation_language: str = field(default="en", metadata={"help": "Language of the translations."})

    def read(self, raw: Path, default_key: str) -> dict[str, str] | None:
        """Translations by key, "" for a key that has two different ones; None where no table is named.

        Raises:
            DataError: the table or a column is missing.
        """
        if self.translations is None:
            return None
        path = raw / self.translations
        table = read_table(path)
        key_column = self.translation_key or default_key
        require_columns(table, (key_column, self.translation_column), path)
        texts: dict[str, str] = {}
        for _, row in rows_of(table):
            key, text = row[key_column].strip(), row[self.translation_column].strip()
            if texts.setdefault(key, text) != text:
                texts[key] = ""
        return texts


def report_fields(original: str, language: str, key: str, translations: dict[str, str] | None, target: str) -> dict:
    """The fields `findings`, `report_origin` and `language` of a record: the translation where there is a table.

    Raises:
        DataError: there is a table, and it has no or no single text for this key.
    """
    if translations is None:
        return {"findings": original, "report_origin": "radiologist", "language": language}
    if not translations.get(key):
        raise DataError(
            f"the table of translations has no text for {key!r}, or several", "report without a translation"
        )
    return {"findings": translations[key], "report_origin": "translation", "language": target}
