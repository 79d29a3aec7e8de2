"""Where rows come from: the embedded sample, files and folders on disk, or a dataset on the Hugging Face Hub."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from os.path import expanduser
from pathlib import Path
from textwrap import shorten

from datasets import load_dataset_builder
from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id

from train.data.files.checksums import CHECKSUMS_FILE, kept_checksums, read_checksums
from train.data.files.chunk import Columns
from train.data.files.parquet_rows import is_parquet, open_parquet


logger = logging.getLogger(__name__)

SAMPLE_FOLDER = Path(__file__).parent.parent / "sample"
SAMPLE = "sample"  # the name under which `--dataset` finds the embedded rows
COMPRESSED = (".gz", ".zst")
TEXT_FORMATS = (".txt", *(f".txt{ending}" for ending in COMPRESSED))
ROW_FORMATS = (".parquet", ".jsonl", *(f"{kind}{ending}" for kind in (".jsonl", ".json") for ending in COMPRESSED))
FORMATS = (*ROW_FORMATS, *TEXT_FORMATS)  # in upper or lower case
WANTED = "files of rows end in .parquet, .jsonl or .txt, the latter two also in .gz or .zst"


@dataclass(frozen=True)
class Shard:
    """One file of rows, with the size and SHA-256 that its source states."""

    name: str  # a local path, or a file's path in the Hub dataset
    bytes: int
    sha256: str | None = None
    repository: str | None = None  # where on the Hub it lies; `None` for a local file
    revision: str | None = None
    changed_ns: int | None = None  # when a local file was last changed

    def __str__(self) -> str:
        return f"{self.repository}@{(self.revision or '')[:7]}/{self.name}" if self.repository else self.name


@dataclass(frozen=True)
class Source:
    """A place to read rows from, resolved: files that exist, or those of a Hub dataset at a fixed commit."""

    name: str  # what the user asked for
    shards: tuple[Shard, ...]  # in reading order
    revision: str | None = None  # the Hub commit, so that the same rows can be read again; `None` for files
    split: str = "train"  # the Hub dataset's
    config: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.config})" if self.config else self.name

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self.shards)

    def describe(self) -> dict:
        """The facts of the source that a run records."""
        facts = {"dataset": self.name, "dataset_revision": self.revision, "dataset_split": self.split}
        return {**facts, "dataset_config": self.config} if self.config else facts

    def checksums(self, folder: Path) -> list[str | None]:
        """SHA-256 of all files: as the Hub states it, where it does, or computed, as `kept_checksums` does it."""
        if self.revision is not None:
            return [shard.sha256 for shard in self.shards]
        return [*kept_checksums([Path(shard.name) for shard in self.shards], folder)]

    def fingerprint(self, folder: Path) -> list:
        """Identifies the rows: by dataset and commit, or by the content of the files in their order."""
        if self.revision is not None:
            return [self.name, self.revision, self.split, *([self.config] if self.config else [])]
        checksums = self.checksums(folder)
        same = [str(shard) for shard, one in zip(self.shards, checksums, strict=True) if checksums.count(one) > 1]
        if same:
            logger.warning(
                "%s: their rows are read more than once, as files have the same content.", shorten(", ".join(same), 500)
            )
        return checksums

    def count_rows(self) -> int | None:
        """The number of rows that local parquet files write down, else `None`; a torn file is a `BadShardError`."""
        if self.revision is not None or not all(is_parquet(shard.name) for shard in self.shards):
            return None
        rows = 0
        for shard in self.shards:
            with open(shard.name, "rb") as file:
                rows += open_parquet(file, str(shard), Columns()).metadata.num_rows
        return rows


def short_names(sources: Sequence[Source]) -> list[str]:
    """The last part of each one's path or id, with its configuration; where they are alike, with a number."""
    names = [Path(str(source)).name for source in sources]
    return [name if names.count(name) == 1 else f"{name} {number}" for number, name in enumerate(names, start=1)]


def find_source(dataset: str, revision: str | None = None, split: str = "train", config: str | None = None) -> Source:
    """Resolve "sample", a path to a file of rows or to a folder of them, or a Hub id ("PleIAs/SYNTH").

    In a folder, hidden files and links to folders are not followed, nor text files beside files of rows; the log names
    what is left unread.

    Args:
        revision, split, config: of a Hub dataset; a branch or tag is resolved to its commit.

    Raises:
        ValueError: nothing of that name, an empty folder, files of different formats, or no such split.
        ConnectionError, datasets.exceptions.DatasetNotFoundError: the Hub cannot be reached, or has no such dataset.
    """
    path = SAMPLE_FOLDER / "train.parquet" if dataset == SAMPLE else Path(expanduser(dataset))
    if dataset and path.exists():
        if not {revision, split, config} <= {None, "main", "train", "default"}:
            logger.warning(
                "%s lies here, so the revision, split or configuration of a Hub dataset is not used.", dataset
            )
        return Source(dataset, tuple(_local_shards(dataset, path)))
    if not _is_hub_id(dataset) or _has_rows(path):
        raise ValueError(
            f"{dataset!r} is neither a file or folder here, nor a Hub id like PleIAs/SYNTH, nor {SAMPLE!r}."
        )
    try:
        return _hub_source(dataset, revision, split, config)
    except ConnectionError as error:
        raise ConnectionError(f"{error}, and there is no such file or folder here.") from error


def _local_shards(dataset: str, path: Path) -> list[Shard]:
    files, unread = ([path], []) if path.is_file() and _has_rows(path) else _files_in(path)
    if rows := [file for file in files if not file.name.lower().endswith(TEXT_FORMATS)]:
        unread = sorted([*unread, *(str(file.relative_to(path)) for file in files if file not in rows)])  # licences
        files = rows
    said = f"not read are {shorten(', '.join(unread), 200)}; {WANTED}" if unread else WANTED
    if not files:
        raise ValueError(
            f"{dataset}: found no rows; {said}. Others can be converted: "
            'datasets.load_dataset("json", data_files="a.json")["train"].to_parquet("a.parquet").'
        )
    if unread:
        logger.warning("%s: %s.", dataset, said)
    if len({is_parquet(file.name) for file in files}) > 1:
        raise ValueError(f"{dataset} holds both .parquet and .jsonl files: name one kind, so no row is read twice.")
    present = set(files)
    for file in files:
        if not file.is_file():
            raise ValueError(f"{file} is no file, but a link to nothing or a device: remove it, or bring it back.")
        if file.with_suffix("") in present:
            raise ValueError(f"{file} stands beside {file.stem}: remove one of them, so no row is read twice.")
    checksums = read_checksums(path / CHECKSUMS_FILE)
    # Links are not followed: in the Hub's cache they lead to files whose names do not say what they are.
    files = [file.absolute() for file in files]
    missing = sorted(file for file in checksums.keys() - set(files) if _has_rows(file))
    if missing:
        raise ValueError(f"{path / CHECKSUMS_FILE} lists {missing[0].name}, which is not there: copy it again.")
    states = [(file, file.stat()) for file in files]
    if not any(now.st_size for _, now in states):
        raise ValueError(f"{dataset} is empty: there is nothing in {files[0].name}.")
    return [Shard(str(file), now.st_size, checksums.get(file), changed_ns=now.st_mtime_ns) for file, now in states]


def _files_in(folder: Path) -> tuple[list[Path], list[str]]:
    """The files of rows in a folder, in order, and the names of what else is there, but for hidden files of no rows."""
    files, unread = [], []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        is_hidden = f"/{name}".count("/.") > 0
        if path.is_dir() and not path.is_symlink():
            next(path.iterdir(), None)  # an error where it may not be opened: rglob passes over it
            continue
        if _has_rows(path) and not is_hidden and not path.is_dir():
            files.append(path)
        elif path.name != CHECKSUMS_FILE and (_has_rows(path) or not is_hidden):
            unread.append(name)
    return files, unread


def _has_rows(file: Path) -> bool:
    return file.name.lower().endswith(FORMATS)


@lru_cache  # so that a process reads one commit, whatever is pushed meanwhile
def _hub_source(dataset: str, revision: str | None, split: str, config: str | None) -> Source:
    builder = load_dataset_builder(dataset, config, revision=revision)
    commit = builder.hash
    data_files = builder.config.data_files or {}
    if split not in data_files:
        raise ValueError(f"{dataset} has no split {split}; it has {', '.join(map(str, data_files)) or 'none'}.")
    names = [re.sub(r"^hf://datasets/[^@]+@[^/]+/", "", str(file)) for file in data_files[split]]
    unread = [name for name in names if not _has_rows(Path(name))]
    if unread:
        raise ValueError(f"{dataset} has {unread[0]}: {WANTED}.")
    facts = {info.path: info for info in HfApi().get_paths_info(dataset, names, revision=commit, repo_type="dataset")}
    sums = {name: info.lfs.sha256 if info.lfs is not None else None for name, info in facts.items()}
    shards = [Shard(name, facts[name].size, sums[name], dataset, commit) for name in names]
    return Source(dataset, tuple(shards), commit, split, config)


def _is_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except ValueError:
        return False
    return name.count("/") == 1
