"""Where rows come from: the embedded sample, files and folders on disk, or a dataset on the Hugging Face Hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from datasets import load_dataset_builder
from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id

from train.data.files.chunk import Columns
from train.data.files.parquet_rows import open_parquet


SAMPLE_FOLDER = Path(__file__).parent.parent / "sample"
SAMPLE = "sample"  # the name under which `--dataset` finds the embedded rows
FORMATS = (".parquet", ".jsonl")
# In a folder: what `sha256sum *.parquet > SHA256SUMS` writes. The files are then checked against it.
CHECKSUMS_FILE = "SHA256SUMS"


@dataclass(frozen=True)
class Shard:
    """One file of rows, with the size and SHA-256 that its source states."""

    name: str  # a local path, or a file's path in the Hub dataset
    bytes: int
    sha256: str | None = None
    repository: str | None = None  # where on the Hub it lies; `None` for a local file
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}@{(self.revision or '')[:7]}/{self.name}" if self.repository else self.name


@dataclass(frozen=True)
class Source:
    """A place to read rows from, resolved: files that exist, or those of a Hub dataset at a fixed commit."""

    name: str  # what the user asked for
    shards: tuple[Shard, ...]  # in reading order
    revision: str | None = None  # the Hub commit, so that the same rows can be read again; `None` for files
    split: str = "train"  # the Hub dataset's

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self.shards)

    def describe(self) -> dict:
        """The facts of the source that a run records."""
        return {"dataset": self.name, "dataset_revision": self.revision, "dataset_split": self.split}

    def fingerprint(self) -> list:
        """Identifies the rows: for files by their names, sizes and times of change, else by dataset and commit."""
        if self.revision is not None:
            return [self.name, self.revision, self.split]
        return [[shard.name, shard.bytes, Path(shard.name).stat().st_mtime_ns] for shard in self.shards]

    def count_rows(self) -> int | None:
        """The number of rows that local parquet files write down, else `None`; a torn file is a `BadShardError`."""
        if self.revision is not None or not all(shard.name.endswith(".parquet") for shard in self.shards):
            return None
        rows = 0
        for shard in self.shards:
            with open(shard.name, "rb") as file:
                rows += open_parquet(file, str(shard), Columns()).metadata.num_rows
        return rows


def find_source(dataset: str, revision: str | None = None, split: str = "train", config: str | None = None) -> Source:
    """Resolve "sample", a path to a .parquet or .jsonl file or to a folder of them, or a Hub id ("PleIAs/SYNTH").

    Args:
        revision, split, config: of a Hub dataset; a branch or tag is resolved to its commit.

    Raises:
        ValueError: nothing of that name, an empty folder, files of different formats, or no such split.
        ConnectionError, datasets.exceptions.DatasetNotFoundError: the Hub cannot be reached, or has no such dataset.
    """
    path = SAMPLE_FOLDER / "train.parquet" if dataset == SAMPLE else Path(dataset).expanduser()
    if path.exists():
        return Source(dataset, tuple(_local_shards(dataset, path)))
    if not _is_hub_id(dataset):
        raise ValueError(
            f"{dataset!r} is neither a file or folder here, nor a Hub id like PleIAs/SYNTH, nor {SAMPLE!r}."
        )
    return _hub_source(dataset, revision, split, config)


def _local_shards(dataset: str, path: Path) -> list[Shard]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in FORMATS)
    suffixes = {file.suffix for file in files}
    if not files or not suffixes <= set(FORMATS):
        raise ValueError(f"{dataset}: found no rows; a file or folder of .parquet or .jsonl files is needed.")
    if len(suffixes) > 1:
        raise ValueError(f"{dataset} holds both .parquet and .jsonl files: name one kind, so no row is read twice.")
    checksums = _read_checksums(path / CHECKSUMS_FILE)
    # Links are not followed: in the Hub's cache they lead to files whose names do not say what they are.
    files = [file.absolute() for file in files]
    missing = sorted(file for file in checksums.keys() - set(files) if file.suffix in FORMATS)
    if missing:
        raise ValueError(f"{path / CHECKSUMS_FILE} lists {missing[0].name}, which is not there: copy it again.")
    return [Shard(str(file), file.stat().st_size, checksums.get(file)) for file in files]


def _read_checksums(file: Path) -> dict[Path, str]:
    """Path to SHA-256, from what `sha256sum` wrote; empty where there is no such file."""
    checksums = {}
    for number, line in enumerate(file.read_text("utf-8").splitlines() if file.is_file() else [], start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if match is None:
            raise ValueError(f"{file}, line {number}: {line[:80]!r} is not what sha256sum writes.")
        checksums[(file.parent / match[2]).absolute()] = match[1]
    return checksums


def _hub_source(dataset: str, revision: str | None, split: str, config: str | None) -> Source:
    builder = load_dataset_builder(dataset, config, revision=revision)
    commit = builder.hash
    data_files = builder.config.data_files or {}
    if split not in data_files:
        raise ValueError(
            f"--dataset_split {split}: {dataset} has {', '.join(map(str, data_files)) or 'no data files'}."
        )
    names = [re.sub(r"^hf://datasets/[^@]+@[^/]+/", "", str(file)) for file in data_files[split]]
    unread = [name for name in names if Path(name).suffix not in FORMATS]
    if unread:
        raise ValueError(f"{dataset} has {unread[0]}: only .parquet and .jsonl files can be read.")
    facts = {info.path: info for info in HfApi().get_paths_info(dataset, names, revision=commit, repo_type="dataset")}
    sums = {name: info.lfs.sha256 if info.lfs is not None else None for name, info in facts.items()}
    shards = [Shard(name, facts[name].size, sums[name], dataset, commit) for name in names]
    return Source(dataset, tuple(shards), commit, split)


def _is_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except ValueError:
        return False
    return name.count("/") == 1
