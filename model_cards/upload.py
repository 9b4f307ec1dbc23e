"""One commit to the Hub, private unless told otherwise, with errors that say what to do. Never shows a token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)

from model_cards.publication import PublishError
from model_cards.refusals.hub import WHAT, wrong_base, wrong_owner, wrong_target

_ATTEMPTS = 4
#: How a connection breaks: in the client, below it, and in hf_xet, which sends the large files.
_BROKEN = (HTTPError, ConnectionError, TimeoutError, RuntimeError)
Result = TypeVar("Result")


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
        _refuse(wrong_owner(repo, self.user))

    def commit_of(self, repo: str, weights_sha256: str, revision: str | None = None, code: str | None = None) -> str:
        """The commit of the base model `repo` at `revision` (default: now).

        Args:
            code: file of its code without which its adapters cannot be loaded.

        Raises:
            PublishError: it is not there, or not what the adapter needs (`model_cards.refusals.hub.wrong_base`).
        """
        try:
            with self._plain_errors(repo):
                info = self.api.model_info(repo, revision=revision, files_metadata=True)
        except RepositoryNotFoundError as error:
            raise PublishError(f"--base_repo {repo} is not there, or not for you: publish the base first") from error
        _refuse(wrong_base(repo, info, weights_sha256, code))
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
        _refuse(wrong_target(repo, info, kind, public, update))

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
                    commit_message=f"Publish {WHAT[kind]} of CheXficient",
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


def _refuse(reason: str | None) -> None:
    if reason is not None:
        raise PublishError(reason)


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
