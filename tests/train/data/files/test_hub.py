"""Rows from a dataset on the Hub, through the real client, against a stand-in that serves one dataset from a folder."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.train.data.hub_server import COMMIT, serve


@pytest.fixture
def hub(tmp_path, row):
    """A Hub with the dataset "someone/synth": two shards of 150 rows, and a split "validation" of 20 like them."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    for shard in range(2):
        rows = [row(number) for number in range(150 * shard, 150 * (shard + 1))]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"train-{shard}.parquet")
    pq.write_table(pa.Table.from_pylist([row(number) for number in range(140, 160)]), folder / "validation-0.parquet")
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    with serve("someone/synth", folder) as server:
        yield server


PREPARE = """
import json, sys
from transformers import AutoTokenizer
from modeling_gpt2scratch import TOKENIZER_FOLDER
from train.data.from_settings import to_preparations
from train.data.sequences.prepare import prepare_data
from train.settings.arguments import DataArguments

arguments = DataArguments(dataset=["someone/synth"], max_samples=200, sequence_length=16, validation_fraction=0.1)
arguments.data_cache_dir = sys.argv[1]
preparation = to_preparations(arguments, AutoTokenizer.from_pretrained(TOKENIZER_FOLDER))[0]
data = prepare_data(preparation)
fetched = [str(file) for file in (preparation.folder / "fetched").rglob("*.parquet")]
apart = DataArguments(dataset=["someone/synth"], validation_split="validation", sequence_length=16)
apart.data_cache_dir = sys.argv[1]
left = prepare_data(to_preparations(apart, preparation.tokenizer)[0]).statistics
facts = {**preparation.source.describe(), **data.statistics.to_dict(), "fetched": fetched}
print(json.dumps({**facts, "kept": left.kept_rows, "dropped": left.dropped_rows}))
"""


def test_rows_are_prepared_from_the_hub_at_a_recorded_commit(hub, tmp_path):
    command = [sys.executable, "-c", PREPARE, str(tmp_path / "cache")]
    environment = hub.environment(tmp_path / "home")
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout.splitlines()[-1])
    assert result["dataset_revision"] == COMMIT
    assert result["rows_read"] == 200
    assert result["fetched"] == []  # a file is on the disk while it is read
    assert hub.downloads("train-0.parquet") == 4  # twice; its columns were looked at first
    assert hub.downloads("train-1.parquet") == 2
    assert result["kept"] == {"train": 280, "validation": 20}
    assert result["dropped"] == {"in the validation set": 20}
