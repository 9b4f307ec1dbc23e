"""What the Hub holds already and does not go with a publication. Each gives the reason, or None."""

from __future__ import annotations

import re

from huggingface_hub.errors import HFValidationError
from huggingface_hub.hf_api import DatasetInfo, ModelInfo
from huggingface_hub.utils import validate_repo_id

#: The file of a base that rebuilds its heads where this package is not installed.
HEADS_FILE = "modeling_chexficient_heads.py"
#: The weights of a model; other tensors may lie beside them.
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
WHAT = {"model": "a model", "adapter": "an adapter", "dataset": "a dataset"}


def wrong_owner(repo: str, user: dict) -> str | None:
    """Whether `repo` is no ORG/NAME, or ORG neither the user (as `whoami` says) nor an organisation of the user."""
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        return f"--repo {repo}: {error}"
    if repo.count("/") != 1:
        return f"--repo {repo}: give ORG/NAME, such as {user['name']}/{repo}"
    owners = [user["name"], *(organisation["name"] for organisation in user.get("orgs", []))]
    if repo.split("/")[0] in owners:
        return None
    return (
        f"--repo {repo}: the token is of {user['name']}, who may write to {', '.join(owners)}; publish there, or use a "
        "token of the owner"
    )


def wrong_base(repo: str, info: ModelInfo, weights_sha256: str, code: str | None) -> str | None:
    """Whether the repository of a base holds no weights, others (told where they are in one file: the Hub keeps the
    hash of each file), or lacks the file `code` of its own.
    """
    files = info.siblings or []
    weights = [file for file in files if _WEIGHTS.fullmatch(file.rfilename)]
    if not weights:
        return f"--base_repo {repo} holds no weights (safetensors): name the repository of the base"
    commit = f"--base_repo {repo} (commit {str(info.sha)[:12]})"
    if len(weights) == 1 and weights[0].lfs is not None and weights[0].lfs.sha256 != weights_sha256:
        return (
            f"{commit} holds other weights ({weights[0].lfs.sha256[:12]}...) than the adapter was trained on "
            f"({weights_sha256[:12]}...): name the repository of that base"
        )
    if code is not None and code not in {file.rfilename for file in files}:
        return (
            f"{commit} has code of an earlier version, without {code}: save that model anew "
            "(AutoModel.from_pretrained, save_pretrained) and publish it again with --update"
        )
    return None


def wrong_target(repo: str, info: ModelInfo | DatasetInfo, kind: str, public: bool, update: bool) -> str | None:
    """Whether a repository that is there is of another kind or visibility, or would be replaced without `update`."""
    files = {file.rfilename for file in info.siblings or []} - {".gitattributes"}
    found = _kind_of(files)
    if files and found != kind:
        what = WHAT.get(found or "", "something else")
        return f"{repo} is there and holds {what}: choose another --repo"
    if files and not update:
        return f"{repo} is there already: choose another --repo, or replace its content with --update"
    if info.private == public:
        there, wanted = ("private", "--public") if info.private else ("public", "without --public")
        return (
            f"{repo} is there and {there}, and you publish {wanted}: change that on its settings page, or choose "
            "another --repo"
        )
    return None


def _kind_of(files: set[str]) -> str | None:
    """What a repository holds, by the names of its files."""
    if "adapter_config.json" in files:
        return "adapter"
    if any(name.endswith(".parquet") for name in files):
        return "dataset"
    return "model" if "config.json" in files else None
