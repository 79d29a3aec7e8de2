"""Where rows come from: the embedded sample, files and folders on disk, or a dataset on the Hugging Face Hub."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from datasets import IterableDataset, load_dataset, load_dataset_builder
from huggingface_hub.utils import validate_repo_id

from train.data.synth import COLUMNS


SAMPLE_FOLDER = Path(__file__).parent / "sample"
SAMPLE = "sample"  # the name under which `--dataset` finds the embedded rows
FORMATS = {".parquet": "parquet", ".jsonl": "json"}


@dataclass(frozen=True)
class Source:
    """A place to read rows from, resolved: files that exist, or a Hub dataset at a fixed commit.

    Args:
        name: what the user asked for.
        files: local files in reading order; empty for a Hub dataset.
        revision: the Hub commit, so that the same rows can be read again; `None` for files.
        split: the Hub dataset's split.
    """

    name: str
    files: tuple[Path, ...] = ()
    revision: str | None = None
    split: str = "train"

    def describe(self) -> dict:
        """What a run records of its source."""
        return {"dataset": self.name, "dataset_revision": self.revision, "dataset_split": self.split}

    def fingerprint(self) -> list:
        """What identifies the rows: for files their names, sizes and times of change, else dataset and commit."""
        if not self.files:
            return [self.name, self.revision, self.split]
        return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in self.files]

    def count_rows(self) -> int | None:
        """The number of rows where that is cheap to know (parquet files write it down), else `None`."""
        if self.files and all(file.suffix == ".parquet" for file in self.files):
            return sum(pq.read_metadata(file).num_rows for file in self.files)
        return None

    def open(self) -> IterableDataset:
        """A stream of the rows in order, with the columns that are used; nothing is copied to disk.

        Raises:
            ValueError: columns are missing.
        """
        if self.files:
            files = [str(file) for file in self.files]
            rows = load_dataset(FORMATS[self.files[0].suffix], data_files=files, split="train", streaming=True)
        else:
            rows = load_dataset(self.name, revision=self.revision, split=self.split, streaming=True)
        columns = rows.column_names or list(next(iter(rows)))  # JSON lines name their columns row by row
        missing = [column for column in COLUMNS if column not in columns]
        if missing:
            raise ValueError(
                f"{self.name} has no column {', '.join(missing)}; it has {', '.join(columns)}. Rows need "
                f"SYNTH's columns: {', '.join(COLUMNS)} (rename yours, or add them with null values)."
            )
        return rows.select_columns(list(COLUMNS))


def find_source(dataset: str, revision: str | None = None, split: str = "train") -> Source:
    """Resolve what `--dataset` names.

    Args:
        dataset: "sample", a path to a .parquet or .jsonl file or to a folder of them, or a Hub id ("PleIAs/SYNTH").
        revision: branch, tag or commit of a Hub dataset; resolved to the commit.
        split: the split of a Hub dataset.

    Raises:
        ValueError: nothing of that name, an empty folder, or files of different formats.
        ConnectionError, datasets.exceptions.DatasetNotFoundError: the Hub cannot be reached, or has no such dataset.
    """
    if dataset == SAMPLE:
        return Source(SAMPLE, files=(SAMPLE_FOLDER / "train.parquet",))
    path = Path(dataset).expanduser()
    if path.exists():
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in FORMATS)
        suffixes = {file.suffix for file in files}
        if not files or not suffixes <= FORMATS.keys():
            raise ValueError(f"{dataset}: found no rows; a file or folder of .parquet or .jsonl files is needed.")
        if len(suffixes) > 1:
            raise ValueError(f"{dataset} holds both .parquet and .jsonl files: name one kind, so no row is read twice.")
        return Source(dataset, files=tuple(file.resolve() for file in files))
    if not _is_hub_id(dataset):
        raise ValueError(
            f"{dataset!r} is neither a file or folder here, nor a Hub id like PleIAs/SYNTH, nor {SAMPLE!r}."
        )
    commit = load_dataset_builder(dataset, revision=revision).hash
    return Source(dataset, revision=commit, split=split)


def _is_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except ValueError:
        return False
    return name.count("/") == 1
