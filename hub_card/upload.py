"""The upload: one commit a branch, so that the Hub always has the old state or the new one."""

from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.utils import validate_repo_id


MAIN_BRANCH = "main"
CARD_FILE = "README.md"
KEPT = {".gitattributes"}  # the Hub's own: which files are stored outside git


class UploadError(RuntimeError):
    """The Hub, or the way to it, refused; the message says what to do."""


def check_repo_id(repo_id: str) -> None:
    """Raises a ValueError where it is not of the form you/name."""
    validate_repo_id(repo_id)
    if repo_id.count("/") != 1:
        raise ValueError(f"The repository {repo_id!r} names no owner: write you/{repo_id}, with your name on the Hub.")


def upload(branches: dict[str, Path], repo_id: str, private: bool = False, kind: str = "model") -> list[str]:
    """Make each branch of the repository hold the files of its folder and no others; returns lines that say what
    happened to each branch, and which files were deleted.

    Not by `HfApi.upload_folder`: with xet, that uploads large folders in several commits. After an `UploadError` each
    branch is as it was, unless it had its commit already; the same command again does what is left.
    """
    try:
        return _upload(HfApi(), branches, repo_id, private, kind)
    except (OSError, HTTPError, RuntimeError, ValueError) as error:
        raise UploadError(_describe(error, repo_id)) from error


def list_files(folder: Path) -> dict[str, Path]:
    """The files in a folder and below it, by their path in the repository, in order."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file for file in sorted(files)}


def _upload(api: HfApi, branches: dict[str, Path], repo_id: str, private: bool, kind: str) -> list[str]:
    sdk = "static" if kind == "space" else None
    api.create_repo(repo_id, private=private or None, exist_ok=True, repo_type=kind, space_sdk=sdk)
    if private and not api.repo_info(repo_id, repo_type=kind).private:
        raise ValueError(f"{repo_id} exists and is public: make it private in its settings, or leave out --private.")
    for branch in branches.keys() - {MAIN_BRANCH}:
        api.create_branch(repo_id, branch=branch, exist_ok=True, repo_type=kind)
    prepared = []
    # The large files of all branches go first, which takes long and changes nothing that can be seen.
    for branch, folder in branches.items():
        head = api.repo_info(repo_id, revision=branch, repo_type=kind)
        files = list_files(folder)
        additions = [CommitOperationAdd(path, file) for path, file in files.items()]
        old = sorted({sibling.rfilename for sibling in head.siblings or []} - files.keys() - KEPT)
        prepared.append((branch, head.sha, [*additions, *map(CommitOperationDelete, old)], old))
        api.preupload_lfs_files(repo_id, additions, revision=branch, free_memory=False, repo_type=kind)
    lines = []
    for branch, head, operations, old in prepared:
        # The Hub refuses it where somebody else has changed the branch since its files were listed.
        commit = api.create_commit(
            repo_id,
            operations,
            commit_message="Publish with hub_card",
            revision=branch,
            parent_commit=head,
            repo_type=kind,
        )
        lines.append(f"{branch}: {commit.commit_url if commit.oid != head else f'nothing has changed since {head}'}")
        lines += [f"{branch}: deleted {name}" for name in old]
    return lines


def _describe(error: Exception, repo_id: str) -> str:
    text = str(error)
    if not isinstance(error, HfHubHTTPError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why a file could not be uploaded, where the error says which
        text += f" {error}"
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return f"{text} Log in with `hf auth login` and a token that may write to {repo_id}."
    return f"{text} What was uploaded stays there: the same command again does the rest."
