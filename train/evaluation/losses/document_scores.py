"""Losses of whole documents: the nats of their tokens, summed document by document.

A document is read alone, after an end-of-text token, as it stood in training, and its own end-of-text token is scored
with it. A long one is read in windows: each begins half a window after the one before, the last ends with the document,
and a token is scored once, in the first window that holds it.

A model that was trained on documents side by side (`--packing best_fit`) never saw anything before a document: it reads
without that token, and the document's first token is not scored.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.data.rows.schemas import SYNTH, Schema
from train.data.rows.synth import BLANK, Row
from train.evaluation.generation import share_out
from train.evaluation.opened_model import OpenedModel


TOKENS_AT_ONCE_ON_CPUS = 1024  # enough for matrix products at full speed; 206 MB of logits
TOKENS_AT_ONCE = 4096  # on accelerators
IGNORED = -100


@dataclass(frozen=True)
class Document:
    """One row's text as tokens."""

    token_ids: list[int]  # with the end-of-text token at the end
    answer_start: int  # the first token of the answer, which goes to the end; the number of tokens where there is none
    text_bytes: int  # of the text as UTF-8
    first_token_bytes: int

    @classmethod
    def of(cls, row: Row, schema: Schema, tokenizer: PreTrainedTokenizerBase) -> "Document":
        texts = schema.to_texts(row)
        # split_special_tokens: as in training, the characters <|endoftext|> in a row stay text.
        tokens = tokenizer(texts, split_special_tokens=True, return_offsets_mapping=True, verbose=False)
        token_ids = [token for ids in tokens["input_ids"] for token in (*ids, tokenizer.eos_token_id)]
        places = tokens["offset_mapping"][0]
        answer_start = len(token_ids)
        if schema.name == SYNTH.name:
            answer_begins = len(texts[0]) - len(row["synthetic_answer"].strip(BLANK))
            answer_start = next(number for number, (_, end) in enumerate(places) if end > answer_begins)
        return cls(
            token_ids=token_ids,
            answer_start=answer_start,
            text_bytes=sum(len(text.encode()) for text in texts),
            first_token_bytes=len(texts[0][slice(*places[0])].encode()),
        )


@dataclass(frozen=True)
class DocumentScore:
    """Sums of one document: nats and tokens of all of it and of its answer, and the bytes that the tokens stand for."""

    nats: float
    tokens: int
    answer_nats: float
    answer_tokens: int
    text_bytes: int

    @property
    def bits(self) -> float:
        return self.nats / math.log(2)


def score_documents(opened: OpenedModel, documents: list[Document], score_first: bool) -> list[DocumentScore]:
    """Score every document; all processes of a distributed run must call this, and all get all scores, in order.

    `score_first` scores each document's first token, too, which needs a model that reads after an end-of-text token.
    """
    return share_out(documents, lambda share: _score_share(opened, share, score_first))


def cut_windows(length: int, window: int) -> list[tuple[int, int, int]]:
    """Windows over `length` positions: (begin, end, first position that is scored in it)."""
    windows = [(0, min(window, length), 0)]
    stride = max(1, window // 2)
    while windows[-1][1] < length:
        begin, end, _ = windows[-1]
        next_end = min(begin + stride + window, length)
        windows.append((next_end - window, next_end, end))
    return windows


@dataclass(frozen=True)
class _Window:
    document: int
    inputs: Tensor  # (T,)
    targets: Tensor  # (T,) each the token after its input; IGNORED where another window scores it
    answer_from: int  # the first target of the answer


def _windows_of(number: int, document: Document, opened: OpenedModel, score_first: bool) -> Iterator[_Window]:
    before = [opened.tokenizer.eos_token_id] if opened.reads_after_end_of_text else []
    sequence = torch.tensor(before + document.token_ids)
    inputs, targets = sequence[:-1], sequence[1:].clone()
    if before and not score_first:
        targets[0] = IGNORED
    for begin, end, scored_from in cut_windows(len(inputs), opened.window):
        answer_from = document.answer_start - 1 + len(before) - begin
        wanted = targets[begin:end].clone()
        wanted[: scored_from - begin] = IGNORED
        yield _Window(number, inputs[begin:end], wanted, answer_from)


@torch.inference_mode()
def _score_share(opened: OpenedModel, documents: list[Document], score_first: bool) -> list[DocumentScore]:
    model = opened.model
    windows = [window for n, one in enumerate(documents) for window in _windows_of(n, one, opened, score_first)]
    windows.sort(key=lambda window: len(window.inputs))  # neighbours of like length waste little on padding
    sums = torch.zeros(len(documents), 4, dtype=torch.float64)  # nats, tokens, the answer's nats, the answer's tokens
    tokens_at_once = TOKENS_AT_ONCE_ON_CPUS if model.device.type == "cpu" else TOKENS_AT_ONCE
    hides = not PartialState().is_main_process
    with tqdm(total=len(windows), desc="Validation loss", unit=" windows", disable=hides, leave=False) as progress:
        while windows:
            count = max(1, tokens_at_once // len(windows[-1].inputs))
            batch, windows = windows[-count:], windows[:-count]
            sums.index_add_(0, torch.tensor([window.document for window in batch]), _sum_windows(model, batch))
            progress.update(len(batch))
    return [
        DocumentScore(
            nats=nats,
            tokens=int(tokens),
            answer_nats=answer_nats,
            answer_tokens=int(answer_tokens),
            text_bytes=document.text_bytes - (0 if score_first else document.first_token_bytes),
        )
        for document, (nats, tokens, answer_nats, answer_tokens) in zip(documents, sums.tolist(), strict=True)
    ]


def _sum_windows(model: PreTrainedModel, batch: list[_Window]) -> Tensor:
    """Of each window its nats, tokens, the answer's nats and the answer's tokens: (B, 4)."""
    # Padding stands at the right, where no earlier position sees it: no mask is needed, and none is faster.
    inputs = pad_sequence([window.inputs for window in batch], batch_first=True)  # (B, T)
    targets = pad_sequence([window.targets for window in batch], batch_first=True, padding_value=IGNORED)
    logits = model(input_ids=inputs.to(model.device), use_cache=False).logits.float()  # (B, T, V)
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten().to(model.device), reduction="none")
    losses = losses.view(targets.shape).cpu().double()
    scored = targets != IGNORED
    answer_from = torch.tensor([window.answer_from for window in batch])
    in_answer = scored & (torch.arange(targets.shape[1]) >= answer_from[:, None])
    return torch.stack([losses.sum(1), scored.sum(1), (losses * in_answer).sum(1), in_answer.sum(1)], dim=1)
