"""Requests that make no sense: options that say nothing of what is published, a base that others cannot load."""

from __future__ import annotations

from model_cards.publication import Publication

#: Options that say something about some kinds only.
ONLY_FOR = {
    "base_repo": ("adapter",),
    "results": ("base", "adapter", "head"),
    "prepared_from": ("dataset",),
}


def meaningless_options(kind: str, options: dict) -> list[str]:
    """Options (name -> value) that were given and have no meaning for this kind of publication."""
    what = {"report_base": "the base of a report model", "head": "a whole model"}.get(kind, f"a {kind}")
    return [
        f"--{name} has no meaning for {what}: leave it out"
        for name, kinds in ONLY_FOR.items()
        if options.get(name) and kind not in kinds
    ]


def unnamed_base(publication: Publication) -> list[str]:
    """Of an adapter: whether its base is a folder here, and nobody said where others find it."""
    base = publication.adapter_base
    if base is None or publication.base_repo is not None or base["revision"] is not None:
        return []
    return [
        f"{publication.source} is an adapter on a base in a folder of this machine: publish that ({base['name']}) "
        "first, then name its repository with --base_repo"
    ]
