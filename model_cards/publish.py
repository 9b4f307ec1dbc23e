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
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from model_cards.assemble import assemble
from model_cards.publication import Wish
from model_cards.runs import EXPECTED, explain, kind_of
from model_cards.staging import Staged
from model_cards.upload import HEADS_FILE, Hub, PublishError


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


#: Options that say something about some kinds only.
ONLY_FOR = {
    "base_repo": ("adapter",),
    "results": ("base", "adapter", "head"),
    "prepared_from": ("dataset",),
}


def check_options(kind: str, arguments: PublishArguments) -> None:
    """Raises PublishError for an option that has no meaning for what is published."""
    for name, kinds in ONLY_FOR.items():
        if getattr(arguments, name) and kind not in kinds:
            what = {"report_base": "the base of a report model", "head": "a whole model"}.get(kind, f"a {kind}")
            raise PublishError(f"--{name} has no meaning for {what}: leave it out")


def find_base(source: Path, base_repo: str | None) -> tuple[str, dict]:
    """The repository of an adapter's base, and the base as the adapter's record names it.

    Raises:
        PublishError: the base is a folder, and `base_repo` was not given.
    """
    base = json.loads((source / "adapter" / "chexficient_adapter.json").read_text())["base"]
    if base_repo is None and base["revision"] is None:
        raise PublishError(
            f"{source} is an adapter on a base in a folder of this machine: publish that ({base['name']}) first, then "
            "name its repository with --base_repo"
        )
    return base_repo or base["name"], base


def show(staged: Staged, wish: Wish) -> None:
    """Print the files with their sizes, what stays here, and the card."""
    print(f"{'public' if wish.public else 'private'} repository {wish.repo}")
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
    kind = kind_of(source)
    check_options(kind, arguments)
    values = {
        one.name: getattr(arguments, one.name) for one in dataclasses.fields(Wish) if hasattr(arguments, one.name)
    }
    wish = Wish(source, kind, **values)
    if kind == "adapter":
        base_repo, base = find_base(source, arguments.base_repo)
        revision = base["revision"] if base_repo == base["name"] else None
        wish = dataclasses.replace(wish, base_repo=base_repo, base_revision=revision)
    hub, hub_kind = None, kind if kind in ("adapter", "dataset") else "model"
    if not arguments.dry_run:
        hub = Hub(arguments.token)
        hub.check_owner(wish.repo)
        hub.check_target(wish.repo, hub_kind, wish.public, arguments.update)
        if kind == "adapter":
            code = HEADS_FILE if base["model_type"] == "chexficient" else None
            commit = hub.commit_of(wish.base_repo, base["weights_sha256"], wish.base_revision, code)
            wish = dataclasses.replace(wish, base_revision=commit)
    with tempfile.TemporaryDirectory(prefix="chexficient-publish-") as folder:
        staged = assemble(wish, Path(folder))
        show(staged, wish)
        if hub is None:
            print("\n" + (Path(folder) / "README.md").read_text())
            print("dry run: nothing was sent")
            return None
        return hub.push(Path(folder), wish.repo, hub_kind, wish.public)


def main(arguments: list[str] | None = None) -> None:
    words = sys.argv[1:] if arguments is None else arguments
    parser = HfArgumentParser(PublishArguments, prog="model_cards.publish RUN_OR_DATASET")
    if not words or words[0].startswith("-"):
        if "--help" in words or "-h" in words:
            parser.print_help()
            return
        raise SystemExit("usage: python -m model_cards.publish RUN_OR_DATASET --repo ORG/NAME [--dry_run] ...")
    (parsed,) = parser.parse_args_into_dataclasses(words[1:])
    try:
        address = publish(Path(words[0]), parsed)
    except EXPECTED as error:
        raise SystemExit(explain(error, Path(words[0]))) from error
    if address is not None:
        print(f"published: {address}")


if __name__ == "__main__":
    main()
