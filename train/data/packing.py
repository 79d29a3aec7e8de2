"""Tokens to blocks of equal length in a memory-mapped Arrow file."""

import hashlib
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from datasets import Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter


# Two bytes a token: GPT-2's ids fit, and 10 billion tokens take 20 GB in place of 40 or 80.
TOKEN_DTYPE = np.uint16
BLOCKS_PER_WRITE = 1024


class BlockWriter:
    """Concatenates documents and cuts the stream into blocks (GPT-2's way: no padding, documents run on).

    Memory stays flat: at most `BLOCKS_PER_WRITE` blocks and the last documents are held.

    Args:
        path: the Arrow file to write.
        block_size: tokens in a block.
    """

    def __init__(self, path: Path, block_size: int):
        self.block_size = block_size
        self.blocks_written = 0
        self._sha256 = hashlib.sha256()
        self._pending: list[np.ndarray] = []
        self._pending_tokens = 0
        features = Features({"input_ids": List(Value(TOKEN_DTYPE.__name__), length=block_size)})
        self._writer = ArrowWriter(features=features, path=str(path))

    def __enter__(self) -> "BlockWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._write_full_blocks()
            self._writer.finalize()
        self._writer.close()

    def add(self, token_ids: list[int]) -> None:
        """Append one document, its end-of-text token included."""
        self._pending.append(np.asarray(token_ids, dtype=TOKEN_DTYPE))
        self._pending_tokens += len(token_ids)
        if self._pending_tokens >= BLOCKS_PER_WRITE * self.block_size:
            self._write_full_blocks()

    @property
    def sha256(self) -> str:
        """Names the tokens written: equal for equal blocks in equal order, wherever they came from."""
        return self._sha256.hexdigest()

    @property
    def left_over_tokens(self) -> int:
        """Tokens that have not filled a block; never written."""
        return self._pending_tokens

    def _write_full_blocks(self) -> None:
        tokens = np.concatenate([*self._pending, np.empty(0, TOKEN_DTYPE)])
        blocks, rest = np.split(tokens, [len(tokens) // self.block_size * self.block_size])
        if len(blocks):
            self._writer.write_batch({"input_ids": list(blocks.reshape(-1, self.block_size))})
            self.blocks_written += len(blocks) // self.block_size
            self._sha256.update(blocks.astype("<u2").tobytes())
        self._pending, self._pending_tokens = [rest], len(rest)


def open_blocks(path: Path) -> Dataset:
    """The blocks of a file, memory-mapped: a row is read from disk when it is asked for."""
    return Dataset.from_file(str(path)).with_format("numpy")


def collate_blocks(examples: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """A batch for the model: `input_ids` (B, T) and `labels`, the same ids, which the model shifts."""
    input_ids = torch.from_numpy(np.stack([example["input_ids"] for example in examples]).astype(np.int64))
    return {"input_ids": input_ids, "labels": input_ids}
