"""Weights that must not be published: made by code that nobody can get, or trained on data that are not open."""

from __future__ import annotations

from model_cards.publication import Publication


def uncommitted_code(publication: Publication) -> list[str]:
    """Whether the run was made by code that is in no commit."""
    assert publication.run is not None
    if publication.uncommitted or not str(publication.run.record.git_commit).endswith("+changes"):
        return []
    return [
        f"{publication.run.run_dir} was made by code with uncommitted changes, so nobody can make it again: commit and "
        "run it anew, or say --uncommitted (the card tells it)"
    ]


def public_weights(publication: Publication) -> list[str]:
    """Why weights must not be shown to anybody: they can give away what they were trained on."""
    assert publication.run is not None
    closed = publication.run.closed_sources
    if not publication.public or not closed or (publication.own_data_cleared_by or "").strip():
        return []
    return [
        f"--public: trained on data that are not open ({', '.join(closed)}), which weights can give away, those of a "
        'language model above all: publish without --public, or name who allowed it with --own_data_cleared_by "NAME, '
        'ROLE"'
    ]
