"""One commit to the Hub, private unless told otherwise, with errors that say what to do. Never shows a token."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

_ATTEMPTS = 4
#: Of a base, what rebuilds its heads where this package is not installed.
HEADS_FILE = "modeling_chexficient_heads.py"
#: The weights of a model; other tensors may lie beside them.
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_WHAT = {"model": "a model", "adapter": "an adapter", "dataset": "a dataset"}
#: How a connection breaks: in the client, below it, and in hf_xet, which sends the large files.
_BROKEN = (HTTPError, ConnectionError, TimeoutError, RuntimeError)
Result = TypeVar("Result")


class PublishError(ValueError):
    """Something cannot be published; the message says why, and what to do."""


class Hub:
    """The Hub as one user sees it.

    Args:
        token: of an account that may write; None: that of `hf auth login` or HF_TOKEN.

    Raises:
        PublishError: there is no network or token, or the token is not accepted or may only read.
    """

    def __init__(self, token: str | None = None):
        if constants.HF_HUB_OFFLINE:
            raise PublishError("HF_HUB_OFFLINE is set: unset it to publish, or look with --dry_run")
        self.api = HfApi(token=token)
        with self._plain_errors("the account"):
            self.user = self.api.whoami()
        if self.user.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise PublishError("the token may only read: make one that may write at https://hf.co/settings/tokens")

    def check_owner(self, repo: str) -> None:
        """Raises PublishError if `repo` is no ORG/NAME, or ORG neither the user nor an organisation of the user."""
        try:
            validate_repo_id(repo)
        except HFValidationError as error:
            raise PublishError(f"--repo {repo}: {error}") from error
        if repo.count("/") != 1:
            raise PublishError(f"--repo {repo}: give ORG/NAME, such as {self.user['name']}/{repo}")
        owners = [self.user["name"], *(one["name"] for one in self.user.get("orgs", []))]
        if repo.split("/")[0] not in owners:
            raise PublishError(
                f"--repo {repo}: the token is of {self.user['name']}, who may write to {', '.join(owners)}; publish "
                "there, or use a token of the owner"
            )

    def commit_of(self, repo: str, weights_sha256: str, revision: str | None = None, code: str | None = None) -> str:
        """The commit of the base model `repo` at `revision` (default: now).

        Args:
            code: file of its code without which its adapters cannot be loaded.

        Raises:
            PublishError: it is not there, or its weights are others (told where they are in one file: the Hub keeps the
                hash of each file), or it lacks `code`.
        """
        try:
            with self._plain_errors(repo):
                info = self.api.model_info(repo, revision=revision, files_metadata=True)
        except RepositoryNotFoundError as error:
            raise PublishError(f"--base_repo {repo} is not there, or not for you: publish the base first") from error
        weights = [file for file in info.siblings if _WEIGHTS.fullmatch(file.rfilename)]
        if not weights:
            raise PublishError(f"--base_repo {repo} holds no weights (safetensors): name the repository of the base")
        if len(weights) == 1 and weights[0].lfs is not None and weights[0].lfs.sha256 != weights_sha256:
            raise PublishError(
                f"--base_repo {repo} (commit {info.sha[:12]}) holds other weights ({weights[0].lfs.sha256[:12]}...) "
                f"than the adapter was trained on ({weights_sha256[:12]}...): name the repository of that base"
            )
        if code is not None and code not in {file.rfilename for file in info.siblings}:
            raise PublishError(
                f"--base_repo {repo} (commit {info.sha[:12]}) has code of an earlier version, without {code}: save "
                "that model anew (AutoModel.from_pretrained, save_pretrained) and publish it again with --update"
            )
        return info.sha

    def check_target(self, repo: str, kind: str, public: bool, update: bool) -> None:
        """Look at what is there already; raises PublishError where it is of another kind or visibility, or where it
        would be replaced without `update`.
        """
        try:
            with self._plain_errors(repo):
                info = self.api.repo_info(repo, repo_type="dataset" if kind == "dataset" else "model")
        except RepositoryNotFoundError:
            return
        files = {file.rfilename for file in info.siblings} - {".gitattributes"}
        found = _kind_of(files)
        if files and found != kind:
            raise PublishError(f"{repo} is there and holds {_WHAT.get(found, 'something else')}: choose another --repo")
        if files and not update:
            raise PublishError(f"{repo} is there already: choose another --repo, or replace its content with --update")
        if info.private == public:
            there, wanted = ("private", "--public") if info.private else ("public", "without --public")
            raise PublishError(
                f"{repo} is there and {there}, and you publish {wanted}: change that on its settings page, or "
                "choose another --repo"
            )

    def push(self, folder: Path, repo: str, kind: str, public: bool) -> str:
        """Create the repository where it is not there, and make `folder` its whole content in one commit.

        What was uploaded before a connection broke is not sent again, neither here nor by the same command later.

        Returns:
            the address of the commit.
        """
        repo_type = "dataset" if kind == "dataset" else "model"
        with self._plain_errors(repo):
            retry(lambda: self.api.create_repo(repo, repo_type=repo_type, private=not public, exist_ok=True))
            commit = retry(
                lambda: self.api.upload_folder(
                    repo_id=repo,
                    folder_path=folder,
                    repo_type=repo_type,
                    commit_message=f"Publish {_WHAT[kind]} of CheXficient",
                    # What an earlier version had and this one has not, goes.
                    delete_patterns="*",
                )
            )
        return commit.commit_url

    @contextmanager
    def _plain_errors(self, what: str) -> Iterator[None]:
        """Errors of the client as what to do about them; RepositoryNotFoundError is left to the caller."""
        try:
            yield
        except RepositoryNotFoundError:
            raise
        except LocalTokenNotFoundError:
            raise PublishError("there is no token: run `hf auth login`, or set HF_TOKEN") from None
        except HfHubHTTPError as error:
            raise PublishError(_explain(error, what)) from None
        except _BROKEN as error:
            raise PublishError(
                f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}): check the network (or HF_ENDPOINT), "
                "then give the same command again; what was uploaded is kept"
            ) from None


def retry(action: Callable[[], Result], attempts: int = _ATTEMPTS, pause: float = 2.0) -> Result:
    """The result of `action`, tried again after errors that pass: of the connection, and of an overloaded server."""
    for attempt in range(1, attempts + 1):
        try:
            return action()
        except _BROKEN as error:
            status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
            if attempt == attempts or not (status is None or status == 429 or status >= 500):
                raise
            print(f"interrupted ({type(error).__name__}), trying again ({attempt} of {attempts - 1})")
            time.sleep(pause * 2 ** (attempt - 1))
    raise AssertionError("unreachable")


def _explain(error: HfHubHTTPError, what: str) -> str:
    status = error.response.status_code
    if status == 401:
        return "the token is not accepted: run `hf auth login` again, or set HF_TOKEN to one that may write"
    if status == 403:
        return f"{what}: the token may not write there: use one of its owner with the right to write"
    reason = error.response.headers.get("X-Error-Message") or error.response.reason_phrase
    return f"{what}: the Hub answers {status} ({reason}); if it passes, give the same command again"


def _kind_of(files: set[str]) -> str | None:
    """What a repository holds, by the names of its files."""
    if "adapter_config.json" in files:
        return "adapter"
    if any(name.endswith(".parquet") for name in files):
        return "dataset"
    return "model" if "config.json" in files else None
