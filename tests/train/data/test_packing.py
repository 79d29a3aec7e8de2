import numpy as np
import pytest
import torch

from train.data import packing
from train.data.packing import BlockWriter, collate_blocks, open_blocks


def test_documents_run_on_and_only_full_blocks_are_written(tmp_path):
    with BlockWriter(tmp_path / "blocks.arrow", block_size=4) as writer:
        for document in ([1, 2, 3], [4, 5, 6, 7, 8], [9, 10]):
            writer.add(document)
    blocks = open_blocks(tmp_path / "blocks.arrow")
    assert [block["input_ids"].tolist() for block in blocks] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert (writer.blocks_written, writer.left_over_tokens) == (2, 2)


@pytest.mark.parametrize("blocks_per_write", [1, 3, 1024])
def test_the_size_of_the_writes_does_not_change_the_blocks(tmp_path, monkeypatch, blocks_per_write):
    monkeypatch.setattr(packing, "BLOCKS_PER_WRITE", blocks_per_write)
    documents = [list(range(length)) for length in (5, 1, 17, 3, 30)]
    with BlockWriter(tmp_path / "blocks.arrow", block_size=8) as writer:
        for document in documents:
            writer.add(document)
    stream = [token for document in documents for token in document]
    written = np.concatenate([block["input_ids"] for block in open_blocks(tmp_path / "blocks.arrow")])
    assert written.tolist() == stream[: len(stream) // 8 * 8]


def test_blocks_are_memory_mapped_in_two_bytes_a_token(tmp_path):
    with BlockWriter(tmp_path / "blocks.arrow", block_size=512) as writer:
        writer.add([50256] * 512 * 1000)
    blocks = open_blocks(tmp_path / "blocks.arrow")
    assert blocks.cache_files == [{"filename": str(tmp_path / "blocks.arrow")}]
    assert blocks.features["input_ids"].feature.dtype == "uint16"
    assert blocks[999]["input_ids"].tolist() == [50256] * 512
    assert (tmp_path / "blocks.arrow").stat().st_size < 1.02 * 2 * 512 * 1000


def test_no_document_gives_no_block(tmp_path):
    with BlockWriter(tmp_path / "blocks.arrow", block_size=8) as writer:
        pass
    assert len(open_blocks(tmp_path / "blocks.arrow")) == writer.blocks_written == 0


def test_collate_gives_ids_and_the_same_labels():
    examples = [{"input_ids": np.array([1, 50256], np.uint16)}, {"input_ids": np.array([3, 4], np.uint16)}]
    batch = collate_blocks(examples)
    assert batch["input_ids"].dtype == torch.int64
    assert batch["input_ids"].tolist() == batch["labels"].tolist() == [[1, 50256], [3, 4]]
