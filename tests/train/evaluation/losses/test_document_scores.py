"""Sums by document, against Hugging Face's GPT-2 with all logits, one document at a time."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2LMHeadModel

from modeling_gpt2scratch import to_hf_gpt2
from train.data.rows.schemas import SYNTH
from train.data.rows.synth import row_to_text
from train.evaluation.losses import document_scores
from train.evaluation.losses.document_scores import Document, cut_windows, score_documents


@pytest.fixture
def rows(row):
    """Of very different length, one with the end-of-text token's characters in it."""
    return [
        row(0),
        row(1, synthetic_reasoning=None, synthetic_answer="  One, two and three.  "),
        row(2, synthetic_reasoning="One more. " * 30),
        row(3, query="What does <|endoftext|> mean?", synthetic_answer="Crème brûlée, 5 °C."),
    ]


def documents_of(rows: list[dict], tokenizer) -> list[Document]:
    return [Document.of(row, SYNTH, tokenizer) for row in rows]


def scores_of(model, tokenizer, documents, window=64, after_end_of_text=True, score_first=True):
    opened = SimpleNamespace(model=model, tokenizer=tokenizer, window=window, reads_after_end_of_text=after_end_of_text)
    return score_documents(opened, documents, score_first)


def hf_losses(model: GPT2LMHeadModel, ids: list[int]) -> torch.Tensor:
    """Of every token after the first."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    return F.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none").double()


def test_sums_equal_those_of_hugging_faces_gpt2(tiny_model, tokenizer, rows):
    hf_model = to_hf_gpt2(tiny_model).eval()
    rows = [rows[0], rows[1], rows[3]]
    end = tokenizer.eos_token_id
    for model in (tiny_model, hf_model):
        scores = scores_of(model, tokenizer, documents_of(rows, tokenizer))
        for row, score in zip(rows, scores, strict=True):
            text = row_to_text(row)
            ids = tokenizer(text, split_special_tokens=True)["input_ids"]
            answer_ids = tokenizer(" " + row["synthetic_answer"].strip(), split_special_tokens=True)["input_ids"]
            losses = hf_losses(hf_model, [end, *ids, end])
            assert score.nats == pytest.approx(losses.sum().item(), rel=1e-5)
            assert score.tokens == len(ids) + 1
            assert score.answer_tokens == len(answer_ids) + 1
            assert score.answer_nats == pytest.approx(losses[-len(answer_ids) - 1 :].sum().item(), rel=1e-5)
            assert score.text_bytes == len(text.encode())
            assert score.bits == pytest.approx(score.nats / math.log(2))


def test_long_documents_are_read_in_windows(tiny_model, tokenizer, rows):
    hf_model = to_hf_gpt2(tiny_model).eval()
    end = tokenizer.eos_token_id
    (document,) = documents_of(rows[2:3], tokenizer)
    (score,) = scores_of(tiny_model, tokenizer, [document], window=16)
    sequence = [end, *document.token_ids]
    # token by token: the first window that holds it begins at the smallest multiple of 8 that reaches far enough,
    # unless that is later than the last one's beginning
    nats = []
    for place in range(1, len(sequence)):
        begin = min(max(0, -(-(place - 16) // 8) * 8), len(sequence) - 1 - 16)
        nats.append(hf_losses(hf_model, sequence[begin : place + 1])[-1].item())
    assert len(sequence) > 64
    assert score.tokens == len(nats)
    assert score.nats == pytest.approx(sum(nats), rel=1e-5)


@pytest.mark.parametrize(("length", "window"), [(1, 8), (8, 8), (9, 8), (40, 8), (41, 8), (45, 7), (5, 1), (6, 2)])
def test_windows_score_each_place_once_and_after_half_a_window(length, window):
    windows = cut_windows(length, window)
    scored = [place for begin, end, first in windows for place in range(first, end)]
    assert scored == list(range(length))
    for begin, end, first in windows:
        assert end - begin == min(window, length)
        assert first == 0 or first - begin >= window // 2


def test_a_model_of_separate_documents_reads_without_an_end_of_text_before(tiny_model, tokenizer, rows):
    documents = documents_of(rows[:2], tokenizer)
    end = tokenizer.eos_token_id
    alone = scores_of(tiny_model, tokenizer, documents, after_end_of_text=False, score_first=False)
    after = scores_of(tiny_model, tokenizer, documents, score_first=False)
    hf_model = to_hf_gpt2(tiny_model).eval()
    for document, score, other in zip(documents, alone, after, strict=True):
        assert score.nats == pytest.approx(hf_losses(hf_model, document.token_ids).sum().item(), rel=1e-5)
        with_end = hf_losses(hf_model, [end, *document.token_ids])
        assert other.nats == pytest.approx(with_end[1:].sum().item(), rel=1e-5)
        # the same tokens and bytes for both, so that they can be compared: all but the first, which is "Q"
        assert score.tokens == other.tokens == len(document.token_ids) - 1
        assert score.answer_tokens == other.answer_tokens
        assert score.text_bytes == other.text_bytes == document.text_bytes - 1


def test_an_answer_of_one_token_at_the_beginning_of_a_window(tiny_model, tokenizer, row):
    documents = documents_of([row(0, synthetic_answer="6")], tokenizer)
    for window in range(2, 40):
        (score,) = scores_of(tiny_model, tokenizer, documents, window=window)
        assert (score.tokens, score.answer_tokens) == (len(documents[0].token_ids), 2)


def test_no_more_logits_than_those_of_one_batch(tiny_model, tokenizer, row, largest_tensor, monkeypatch):
    monkeypatch.setattr(document_scores, "TOKENS_AT_ONCE_ON_CPUS", 100)
    documents = documents_of([row(number) for number in range(40)], tokenizer)
    assert sum(len(document.token_ids) for document in documents) > 400
    with largest_tensor() as largest:
        scores_of(tiny_model, tokenizer, documents)
    assert largest.elements <= 100 * tiny_model.config.vocab_size


def test_logits_that_are_more_than_a_linear_head_are_scored_as_they_are(tiny_model, tokenizer, row):
    def soft_cap(module, args, kwargs, output):
        output.logits = 3 * torch.tanh(output.logits / 3)
        return output

    capped = to_hf_gpt2(tiny_model).eval()
    capped.register_forward_hook(soft_cap, with_kwargs=True)
    (document,) = documents_of([row(0)], tokenizer)
    (score,) = scores_of(capped, tokenizer, [document])
    expected = hf_losses(capped, [tokenizer.eos_token_id, *document.token_ids]).sum().item()
    assert score.nats == pytest.approx(expected, rel=1e-5)
