"""Documents to sequences of equal length: run together and cut (GPT-2's way), or whole documents side by side."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch


Packing = Literal["concat", "best_fit"]


def token_dtype(vocabulary: int) -> np.dtype:
    """Two bytes a token where all ids fit, as GPT-2's do: 10 billion tokens take 20 GB in place of 40 or 80."""
    return np.dtype("<u2" if vocabulary <= 2**16 else "<u4")


def pack_best_fit(documents: Sequence[np.ndarray], sequence_length: int, padding: int) -> tuple[np.ndarray, int]:
    """Put whole documents side by side, by best fit, largest first (Ding et al., 2024, arXiv 2404.10830).

    Each goes where it leaves the least room. One that is longer than a sequence is cut into full sequences and a rest.
    The padding is the end-of-text token, with which each document ends. Returns sequences (N, sequence_length), and the
    number of documents that were cut.
    """
    parts = [
        document[at : at + sequence_length] for document in documents for at in range(0, len(document), sequence_length)
    ]
    parts.sort(key=len, reverse=True)  # stable: equal input gives equal sequences
    contents: list[list[np.ndarray]] = []
    with_room: dict[int, list[int]] = defaultdict(list)  # room left to the sequences that have it
    rooms: list[int] = []  # those that occur, in order
    for part in parts:
        at = bisect_left(rooms, len(part))
        if at == len(rooms):
            sequence, room = len(contents), sequence_length
            contents.append([])
        else:
            room = rooms[at]
            sequence = with_room[room].pop()
            if not with_room[room]:
                del rooms[at]
        contents[sequence].append(part)
        room -= len(part)
        if room:
            if not with_room[room]:
                insort(rooms, room)
            with_room[room].append(sequence)
    sequences = np.full(
        (len(contents), sequence_length), padding, dtype=documents[0].dtype if documents else token_dtype(0)
    )
    for row, content in zip(sequences, contents, strict=True):
        joined = np.concatenate(content)
        row[: len(joined)] = joined
    return sequences, sum(len(document) > sequence_length for document in documents)


def count_cut(ends: np.ndarray, offset: int, sequence_length: int) -> int:
    """How many documents, one after the other from token `offset` on, run over the end of a sequence.

    `ends` (N,) holds for each the number of tokens from `offset` to its end.
    """
    starts = np.concatenate([[0], ends])[:-1]
    return int(np.count_nonzero((offset + starts) // sequence_length != (offset + ends - 1) // sequence_length))


def collate_sequences(examples: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """A batch for the model: `input_ids` (B, T) and `labels`, the same ids, which the model shifts."""
    input_ids = torch.from_numpy(np.stack([example["input_ids"] for example in examples]).astype(np.int64))
    return {"input_ids": input_ids, "labels": input_ids}


def choose_collator(packing: Packing, end_of_text: int) -> Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]:
    """Makes a batch of sequences that were packed so."""
    return collate_sequences if packing == "concat" else partial(collate_documents, end_of_text=end_of_text)


def collate_documents(examples: list[dict[str, np.ndarray]], end_of_text: int) -> dict[str, torch.Tensor]:
    """A batch of whole documents side by side.

    `position_ids` start again at 0 in each document, which keeps attention inside it. A document's first token is not
    scored, since nothing before it could predict it; nor is padding.

    Boundaries are read from the tokens: the end-of-text token stands at the end of each document and nowhere else.
    """
    batch = collate_sequences(examples)
    input_ids = batch["input_ids"]
    is_first = torch.ones_like(input_ids, dtype=torch.bool)
    is_first[:, 1:] = input_ids[:, :-1] == end_of_text
    place = torch.arange(input_ids.shape[1]).expand_as(input_ids)
    begin = torch.where(is_first, place, 0).cummax(dim=1).values
    return {**batch, "labels": input_ids.masked_fill(is_first, -100), "position_ids": place - begin}
