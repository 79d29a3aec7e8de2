"""What a model makes of whole documents: the nats of their tokens, summed document by document.

A document is read alone, after an end-of-text token, as it stood in training, and its own end-of-text token is scored
with it. One that is longer than a window is read in several: each begins half a window after the one before, the last
ends with the document, and a token is scored in the first window that holds it. So all but the first tokens have at
least half a window before them, and each is scored once.

A model that was trained on documents side by side (`--packing best_fit`) never saw anything before a document, nor had
to say how one begins: it reads without that token, and the document's first token is not scored.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.data.rows.synth import BLANK, Row, row_to_text
from train.evaluation.generation import share_out


TOKENS_AT_ONCE_ON_CPUS = 2048  # enough for matrix products at full speed
TOKENS_AT_ONCE = 16_384  # on accelerators
LOGIT_ROWS = 256  # rows of logits held at once: 51 MB
TEXTS_AT_ONCE = 1000


@dataclass(frozen=True)
class Reading:
    """How a model reads documents.

    Args:
        window: tokens that it reads at once.
        after_end_of_text: whether an end-of-text token stands before each document.
        score_first: whether a document's first token is scored; needs `after_end_of_text`.
    """

    window: int
    after_end_of_text: bool = True
    score_first: bool = True


@dataclass(frozen=True)
class Document:
    """One row's text as tokens.

    Args:
        token_ids: the end-of-text token at the end.
        answer_start: the first token of the answer; the answer goes to the end, end-of-text included.
        text_bytes: of the text as UTF-8; `first_token_bytes` of them are the first token's.
    """

    token_ids: list[int]
    answer_start: int
    text_bytes: int
    first_token_bytes: int


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


def to_documents(rows: list[Row], tokenizer: PreTrainedTokenizerBase) -> list[Document]:
    """The rows' training texts as tokens."""
    documents = []
    for start in range(0, len(rows), TEXTS_AT_ONCE):
        some = rows[start : start + TEXTS_AT_ONCE]
        texts = [row_to_text(row) for row in some]
        # split_special_tokens: as in training, the characters <|endoftext|> in a row stay text.
        tokens = tokenizer(texts, split_special_tokens=True, return_offsets_mapping=True, verbose=False)
        for row, text, ids, places in zip(some, texts, tokens["input_ids"], tokens["offset_mapping"], strict=True):
            answer_begins = len(text) - len(row["synthetic_answer"].strip(BLANK))
            answer_start = next(n for n, (_, end) in enumerate(places) if end > answer_begins)
            first_token_bytes = len(text[slice(*places[0])].encode())
            documents.append(
                Document([*ids, tokenizer.eos_token_id], answer_start, len(text.encode()), first_token_bytes)
            )
    return documents


def score_documents(
    model: PreTrainedModel, documents: list[Document], reading: Reading, end_of_text: int
) -> list[DocumentScore]:
    """Score every document; all processes of a distributed run must call this, and all get all scores, in order."""
    return share_out(documents, lambda share: _score_share(model, share, reading, end_of_text))


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
    inputs: list[int]
    targets: list[int]  # each the token after its input; -100 where another window scores it
    answer_from: int  # the first target of the answer


def _windows_of(number: int, document: Document, reading: Reading, end_of_text: int) -> Iterator[_Window]:
    sequence = [end_of_text, *document.token_ids] if reading.after_end_of_text else document.token_ids
    before = 1 if reading.after_end_of_text else 0
    inputs, targets = sequence[:-1], sequence[1:]
    if reading.after_end_of_text and not reading.score_first:
        targets = [-100, *targets[1:]]
    for begin, end, scored_from in cut_windows(len(inputs), reading.window):
        skipped = scored_from - begin
        # position p predicts the document's token p, or p + 1 where nothing stands before it
        answer_from = max(document.answer_start - 1 + before - begin, 0)
        yield _Window(number, inputs[begin:end], [-100] * skipped + targets[scored_from:end], answer_from)


@torch.inference_mode()
def _score_share(
    model: PreTrainedModel, documents: list[Document], reading: Reading, end_of_text: int
) -> list[DocumentScore]:
    was_training = model.training
    model.eval()
    windows = [window for n, one in enumerate(documents) for window in _windows_of(n, one, reading, end_of_text)]
    windows.sort(key=lambda window: len(window.inputs))  # neighbours of like length waste little on padding
    nats = [[0.0, 0.0] for _ in documents]  # of all, of the answer
    tokens = [[0, 0] for _ in documents]
    if windows:
        _check_head(model, windows[-1].inputs)
    hides = not PartialState().is_main_process
    with tqdm(total=len(windows), desc="Validation loss", unit=" windows", disable=hides, leave=False) as progress:
        for batch in _batches(windows, model.device):
            for window, losses in zip(batch, _token_losses(model, batch), strict=True):
                scored = [n for n, target in enumerate(window.targets) if target != -100]
                answer = [loss for n, loss in zip(scored, losses, strict=True) if n >= window.answer_from]
                for place, part in enumerate((losses, answer)):
                    nats[window.document][place] += sum(part)
                    tokens[window.document][place] += len(part)
            progress.update(len(batch))
    model.train(was_training)
    unscored_bytes = [0 if reading.score_first else document.first_token_bytes for document in documents]
    return [
        DocumentScore(all_nats, all_tokens, answer_nats, answer_tokens, document.text_bytes - unscored)
        for document, (all_nats, answer_nats), (all_tokens, answer_tokens), unscored in zip(
            documents, nats, tokens, unscored_bytes, strict=True
        )
    ]


def _batches(windows: list[_Window], device: torch.device) -> Iterator[list[_Window]]:
    """Runs of windows, sorted by length, that hold about so many tokens with their padding."""
    most = TOKENS_AT_ONCE_ON_CPUS if device.type == "cpu" else TOKENS_AT_ONCE
    batch: list[_Window] = []
    for window in windows:
        if batch and (len(batch) + 1) * len(window.inputs) > most:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _token_losses(model: PreTrainedModel, batch: list[_Window]) -> list[list[float]]:
    """Of each window, the losses of its scored tokens in order, in nats."""
    length = max(len(window.inputs) for window in batch)
    # Padding stands at the right, where no earlier position sees it: no mask is needed, and none is faster.
    inputs = torch.tensor([window.inputs + [0] * (length - len(window.inputs)) for window in batch])
    targets = torch.tensor([window.targets + [-100] * (length - len(window.targets)) for window in batch])
    hidden_states = model.base_model(input_ids=inputs.to(model.device), use_cache=False).last_hidden_state  # (B, T, C)
    scored = targets != -100
    rows, wanted = hidden_states[scored.to(model.device)], targets[scored].to(model.device)  # (N, C), (N,)
    head = model.get_output_embeddings()
    losses: Tensor = torch.cat(
        [
            F.cross_entropy(head(some).float(), some_wanted, reduction="none")
            for some, some_wanted in zip(rows.split(LOGIT_ROWS), wanted.split(LOGIT_ROWS), strict=True)
        ]
    )
    return [part.tolist() for part in losses.cpu().double().split(scored.sum(dim=1).tolist())]


def _check_head(model: PreTrainedModel, input_ids: list[int]) -> None:
    """Refuse a model whose logits are more than its head applied to its body, as with soft-capped logits."""
    some = torch.tensor([input_ids[:8]], device=model.device)
    hidden_states = model.base_model(input_ids=some, use_cache=False).last_hidden_state
    by_parts = model.get_output_embeddings()(hidden_states).float()
    if not torch.allclose(
        by_parts, model(input_ids=some, use_cache=False).logits.float(), rtol=1e-2, atol=1e-2, equal_nan=True
    ):
        raise ValueError(
            f"{type(model).__name__} computes its logits in another way than head(body(tokens)), so its validation "
            "loss cannot be computed piece by piece: leave it out with --no_loss."
        )
