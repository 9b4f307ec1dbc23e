"""A finished run or a dataset as a repository of the Hugging Face Hub, with its card; private unless told otherwise.

    python -m model_cards.publish runs/demo --repo ORG/NAME --dry_run
    python -m model_cards.publish runs/demo --repo ORG/NAME
    python -m model_cards.publish runs/findings --repo ORG/FINDINGS --base_repo ORG/NAME
    python -m model_cards.publish runs/reports/base --repo ORG/REPORT-BASE   # where the run put its base together
    python -m model_cards.publish runs/demo/data --repo ORG/FILMS

Takes a run of `train.pretrain` or `train.adapt`, a prepared dataset, or a curated one. Everything is put together in a
temporary folder first, from a list of what may go: weights as safetensors, our modelling code, configuration and
processor, results as JSON, the card. Pickles, states of training, pictures, tables, ids, reports, local paths, data
that may not be passed on, and runs without results are refused, all problems at once. `--dry_run` shows every file and
the card, and asks the network nothing.
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from data_scripts.command_line import command_name
from model_cards.assemble import assemble
from model_cards.publication import Publication, PublishError, read_source
from model_cards.refusals import refusals
from model_cards.refusals.hub import HEADS_FILE
from model_cards.refusals.request import meaningless_options, unnamed_base
from model_cards.runs import EXPECTED, explain
from model_cards.staging import Staged
from model_cards.upload import Hub


@dataclass
class PublishArguments:
    """Arguments of `model_cards.publish`, behind the folder of the run or dataset."""

    repo: str = field(metadata={"help": "ORG/NAME of the repository; made if it is not there."})
    public: bool = field(default=False, metadata={"help": "Anybody may see it; without this it is private."})
    dry_run: bool = field(
        default=False, metadata={"help": "Show every file and the card, and ask the network nothing."}
    )
    update: bool = field(
        default=False, metadata={"help": "Replace what the repository holds, if it is of the same kind."}
    )
    base_repo: str | None = field(
        default=None, metadata={"help": "Of an adapter: the repository of its base, which must hold the same weights."}
    )
    results: str | None = field(
        default=None, metadata={"help": "Folder of the results (eval.run --out); default: results/ of the run."}
    )
    uncommitted: bool = field(
        default=False, metadata={"help": "Publish although the run was made by code with uncommitted changes."}
    )
    prepared_from: list[str] = field(
        default_factory=list, metadata={"help": "Of a curated dataset: the prepared folders that it was chosen from."}
    )
    own_data_cleared_by: str | None = field(
        default=None,
        metadata={
            "help": 'Who allowed it, "NAME, ROLE": a private copy of films of your own, or a --public model that was '
            "trained on data that are not open."
        },
    )
    token: str | None = field(
        default=None,
        metadata={"help": "Better not given here, where others may read it: `hf auth login` or HF_TOKEN keep it."},
    )


def show(staged: Staged, publication: Publication) -> None:
    """Print the files with their sizes, what stays here, and the card."""
    print(f"{'public' if publication.public else 'private'} repository {publication.repo}")
    for name, size in staged.files.items():
        print(f"  {size:>13,}  {name}")
    print(f"  {sum(staged.files.values()):>13,}  bytes in all")
    if staged.left_out:
        print(f"stays here: {', '.join(staged.left_out)}")
    for note in staged.notes:
        print(f"note: {note}")


def publish(source: Path, arguments: PublishArguments) -> str | None:
    """Publish a run or dataset; returns the address of the commit, None for a dry run.

    Raises:
        ValueError: it cannot be published, or the Hub refuses; the message says why.
    """
    publication = read_publication(source, arguments)
    hub, hub_kind = None, publication.kind if publication.kind in ("adapter", "dataset") else "model"
    if not arguments.dry_run:
        hub = Hub(arguments.token)
        hub.check_owner(publication.repo)
        hub.check_target(publication.repo, hub_kind, publication.public, arguments.update)
        publication = with_base_commit(publication, hub)
    with tempfile.TemporaryDirectory(prefix="chexficient-publish-") as folder:
        staged = assemble(publication, Path(folder))
        _refuse([f"{source} cannot be published:"], refusals(publication, staged))
        show(staged, publication)
        if hub is None:
            print("\n" + (Path(folder) / "README.md").read_text())
            print("dry run: nothing was sent")
            return None
        return hub.push(Path(folder), publication.repo, hub_kind, publication.public)


def read_publication(source: Path, arguments: PublishArguments) -> Publication:
    """What a folder holds, with what was asked for it.

    Raises:
        PublishError: an option has no meaning for it, or it is an adapter whose base nobody else can load.
        ValueError: it is neither a dataset nor a finished run with results.
    """
    publication = Publication(
        source,
        arguments.repo,
        **read_source(source, arguments.results, arguments.prepared_from),
        public=arguments.public,
        uncommitted=arguments.uncommitted,
        base_repo=arguments.base_repo,
        own_data_cleared_by=arguments.own_data_cleared_by,
    )
    _refuse([], meaningless_options(publication.kind, vars(arguments)) + unnamed_base(publication))
    base = publication.adapter_base
    if base is None:
        return publication
    repo = arguments.base_repo or base["name"]
    return dataclasses.replace(
        publication, base_repo=repo, base_revision=base["revision"] if repo == base["name"] else None
    )


def with_base_commit(publication: Publication, hub: Hub) -> Publication:
    """The publication of an adapter with the commit of its base on the Hub, where that is the right base."""
    base = publication.adapter_base
    if base is None:
        return publication
    code = HEADS_FILE if base["model_type"] == "chexficient" else None
    commit = hub.commit_of(publication.base_repo, base["weights_sha256"], publication.base_revision, code)
    return dataclasses.replace(publication, base_revision=commit)


def _refuse(heading: list[str], problems: list[str]) -> None:
    """Raises PublishError with all problems at once, where there are any."""
    if problems:
        bullet = "- " if heading else ""
        raise PublishError("\n".join([*heading, *(f"{bullet}{problem}" for problem in problems)]))


def main(arguments: list[str] | None = None) -> None:
    usage = "%(prog)s RUN_OR_DATASET --repo REPO [--ARGUMENT VALUE ...]"
    parser = HfArgumentParser(PublishArguments, prog=command_name(), usage=usage)
    parser.add_argument("folder", type=Path, metavar="RUN_OR_DATASET", help="Folder of what is published.")
    try:
        parsed, named = parser.parse_args_into_dataclasses(arguments)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    try:
        address = publish(named.folder, parsed)
    except EXPECTED as error:
        raise SystemExit(explain(error, named.folder)) from error
    if address is not None:
        print(f"published: {address}")


if __name__ == "__main__":
    main()
