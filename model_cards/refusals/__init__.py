"""Every reason not to publish something: pure checks, each giving the problems that it found, all listed here.

`request.py` looks at what was asked, `weights.py` and `datasets.py` at terms and origin, `files.py` and `texts.py` at
what was put together, `hub.py` at what the Hub holds already.
"""

from __future__ import annotations

from model_cards.publication import Publication
from model_cards.refusals.datasets import changed_shards, forbidden_data
from model_cards.refusals.files import forbidden_files, missing_code, wrong_content
from model_cards.refusals.texts import ids_or_reports, leaks
from model_cards.refusals.weights import public_weights, uncommitted_code
from model_cards.staging import Staged


def refusals(publication: Publication, staged: Staged) -> list[str]:
    """All problems that forbid publishing `staged`; empty where it may be published."""
    if publication.dataset is not None:
        data = publication.dataset
        problems = forbidden_data(data, publication.public, publication.own_data_cleared_by) + changed_shards(data)
    else:
        assert publication.run is not None
        problems = forbidden_files(publication.run.weights_dir)
        problems += public_weights(publication) + uncommitted_code(publication)
    folder = staged.folder
    tables = [table for data in publication.data_folders for table in sorted((data / "data").glob("*.parquet"))]
    return [*problems, *wrong_content(folder), *leaks(folder), *missing_code(folder), *ids_or_reports(folder, tables)]
