from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.data.sequences.packing import collate_documents, collate_sequences, count_cut, pack_best_fit, token_dtype


END = 50256
TOKEN_DTYPE = token_dtype(50257)


def make_document(length, seed=0):
    """Token ids that say which document they are of, and the end-of-text token."""
    content = np.random.default_rng([seed, length]).integers(0, END, length - 1)
    return np.append(content, END).astype(TOKEN_DTYPE)


def documents_in(sequence):
    """The documents of a sequence, and its number of padding tokens: ends of text beyond the documents' own."""
    ends = np.flatnonzero(sequence == END)
    parts = np.split(sequence, ends + 1)
    documents = [part.tolist() for part in parts if len(part) and part.tolist() != [END]]
    return documents, len(sequence) - sum(map(len, documents))


def test_collate_gives_ids_and_the_same_labels():
    examples = [{"input_ids": np.array([1, END], np.uint16)}, {"input_ids": np.array([3, 4], np.uint16)}]
    batch = collate_sequences(examples)
    assert batch["input_ids"].dtype == torch.int64
    assert batch["input_ids"].tolist() == batch["labels"].tolist() == [[1, END], [3, 4]]


def test_documents_go_where_they_leave_the_least_room():
    documents = [make_document(length, seed) for seed, length in enumerate((3, 6, 2, 7, 2))]
    sequences, cut = pack_best_fit(documents, 10, END)
    three, six, two, seven, other_two = (document.tolist() for document in documents)
    assert sequences.tolist() == [[*seven, *three], [*six, *two, *other_two]]
    assert cut == 0


def test_the_rest_of_a_sequence_is_padding():
    document = make_document(3)
    sequences, cut = pack_best_fit([document], 5, END)
    assert sequences.tolist() == [[*document.tolist(), END, END]]
    assert (sequences.dtype, cut) == (TOKEN_DTYPE, 0)


def test_a_long_document_is_cut_into_full_sequences_and_a_rest_that_is_packed():
    long, short = make_document(11), make_document(2)
    sequences, cut = pack_best_fit([short, long], 4, END)
    assert sequences[:2].tolist() == [long[:4].tolist(), long[4:8].tolist()]
    assert sequences[2:].tolist() == [[*long[8:].tolist(), END], [*short.tolist(), END, END]]
    assert cut == 1
    sequences, cut = pack_best_fit([make_document(4)], 4, END)
    assert (len(sequences), cut) == (1, 0)


def test_no_document_gives_no_sequence():
    sequences, cut = pack_best_fit([], 8, END)
    assert (sequences.shape, cut) == ((0, 8), 0)


# From two tokens on, so that a document can be told from padding.
LENGTHS = st.lists(st.integers(2, 40), max_size=40)


@settings(deadline=None, max_examples=300)
@given(lengths=LENGTHS, sequence_length=st.integers(4, 32))
def test_every_document_stands_whole_in_one_sequence(lengths, sequence_length):
    documents = [make_document(length, seed) for seed, length in enumerate(lengths)]
    sequences, cut = pack_best_fit(documents, sequence_length, END)
    assert sequences.shape == (len(sequences), sequence_length)
    assert sequences.dtype == TOKEN_DTYPE
    assert cut == sum(length > sequence_length for length in lengths)

    expected = Counter(
        tuple(document[at : at + sequence_length].tolist())
        for document in documents
        for at in range(0, len(document), sequence_length)
    )
    # The rest of a cut document may be a lone end of text, which looks like padding: it is counted apart.
    lone_ends = expected.pop((END,), 0)
    found, used = Counter(), []
    for sequence in sequences:
        content, padding = documents_in(sequence)
        assert padding == 0 or (sequence[-padding:] == END).all()
        found.update(map(tuple, content))
        used.append(sequence_length - padding)
    assert found == expected
    assert lone_ends <= sequences.size - sum(used)
    # As few sequences as any packing that leaves no two to be merged; lone ends of text only add to what is used.
    if not lone_ends:
        assert all(one + other > sequence_length for i, one in enumerate(used) for other in used[:i])

    again, _ = pack_best_fit(documents, sequence_length, END)
    assert (again == sequences).all()


@settings(deadline=None, max_examples=200)
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    offset=st.integers(0, 100),
    sequence_length=st.integers(1, 30),
)
def test_cut_documents_are_those_with_tokens_in_two_sequences(lengths, offset, sequence_length):
    place, expected = offset, 0
    for length in lengths:
        expected += len({token // sequence_length for token in range(place, place + length)}) > 1
        place += length
    assert count_cut(np.cumsum(lengths, dtype=np.int64), offset, sequence_length) == expected


def test_cut_documents_are_counted_far_beyond_32_bits():
    lengths, offset = np.array([2**31, 2**31, 7, 5], "<u4"), 10 * 2**32 - 3
    assert (
        count_cut(np.cumsum(lengths, dtype=np.int64), offset, 2**33) == 1
    )  # the first; the others lie in one sequence
    assert count_cut(np.array([], np.int64), offset, 8) == 0


def test_positions_begin_again_at_each_document_and_its_first_token_is_not_scored():
    sequence = [5, 6, END, 7, END, 8, 9, 9, END, END, END]
    full = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2]  # out of the middle of a long document
    batch = collate_documents([{"input_ids": np.array(ids, TOKEN_DTYPE)} for ids in (sequence, full)], END)
    assert batch["input_ids"].tolist() == [sequence, full]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2, 3, 0, 0], list(range(11))]
    assert batch["labels"].tolist() == [
        [-100, 6, END, -100, END, -100, 9, 9, END, -100, -100],
        [-100, *full[1:]],
    ]
    assert {name: value.dtype for name, value in batch.items()} == dict.fromkeys(batch, torch.int64)


# A model of 211 tokens, whose last is the end of text; no dropout, random weights: what the initial ones would hide (a
# bias of 0, a position that is ignored) shows.
TINY_END = 210
TINY_LENGTHS = (7, 2, 12, 5, 1)  # of documents in a sequence of 32; the rest is padding


def make_model(attention):
    config = GPT2ScratchConfig(
        vocab_size=211,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=TINY_END,
        eos_token_id=TINY_END,
        use_cache=False,  # as the Trainer sets it; with a cache, the model does not look for packed documents
    )
    config._attn_implementation = attention
    model = GPT2ScratchForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    assert model.config._attn_implementation == attention
    return model


def tiny_documents(seed=0):
    random = np.random.default_rng(seed)
    return [np.append(random.integers(0, TINY_END, length - 1), TINY_END) for length in TINY_LENGTHS]


def as_batch(*documents):
    """One sequence: the documents in order, and padding."""
    sequence = np.full(32, TINY_END)
    joined = np.concatenate(documents)
    sequence[: len(joined)] = joined
    return collate_documents([{"input_ids": sequence.astype(TOKEN_DTYPE)}], TINY_END)


def losses_one_by_one(model, documents):
    """Summed over all documents' tokens but the first of each, and their number."""
    total, count = 0.0, 0
    for document in documents:
        if len(document) > 1:
            ids = torch.from_numpy(document)[None]
            logits = model(input_ids=ids).logits[0]
            total = total + torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="sum")
            count += len(document) - 1
    return total, count


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("training", [False, True])
def test_the_loss_of_a_sequence_is_that_of_its_documents_alone(attention, training):
    model = make_model(attention).train(training)
    documents = tiny_documents()
    total, count = losses_one_by_one(model, documents)
    expected = total / count
    expected.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    loss = model(**as_batch(*documents)).loss
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-6, msg=lambda m: f"{name}: {m}")  # noqa: B023


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_loss_over_sequences_weighs_every_scored_token_alike(attention):
    """Of sequences with different numbers of scored tokens, given their number as the Trainer does."""
    model = make_model(attention).eval()
    first, second = tiny_documents(), tiny_documents(seed=1)[:2]
    sequences = [{"input_ids": as_batch(*documents)["input_ids"][0].numpy()} for documents in (first, second)]
    batch = collate_documents(sequences, TINY_END)
    total, count = losses_one_by_one(model, [*first, *second])
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).loss, total / count, rtol=1e-5, atol=1e-6)
        scored = int((batch["labels"] != -100).sum())
        halves = [
            model(**collate_documents([sequence], TINY_END), num_items_in_batch=scored).loss for sequence in sequences
        ]
    torch.testing.assert_close(sum(halves), total / count, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("changed", range(len(TINY_LENGTHS) - 1))
def test_a_document_does_not_see_the_others_in_its_sequence(attention, changed):
    model = make_model(attention).eval()
    documents = tiny_documents()
    others = list(documents)
    others[changed] = tiny_documents(seed=1)[changed]
    with torch.no_grad():
        before, after = (model(**as_batch(*some)).logits[0] for some in (documents, others))
    begin = sum(TINY_LENGTHS[:changed])
    end = begin + TINY_LENGTHS[changed]
    assert torch.equal(before[:begin], after[:begin])
    assert torch.equal(before[end:], after[end:])
    assert not torch.allclose(before[begin : end - 1], after[begin : end - 1])


def test_without_positions_documents_would_see_each_other():
    """The other way round: what keeps them apart is the collator's `position_ids`."""
    model = make_model("sdpa").eval()
    batch = as_batch(*tiny_documents())
    with torch.no_grad():
        packed = model(**batch).logits[0]
        run_together = model(input_ids=batch["input_ids"]).logits[0]
    torch.testing.assert_close(packed[: TINY_LENGTHS[0]], run_together[: TINY_LENGTHS[0]])
    assert not torch.allclose(packed[TINY_LENGTHS[0] :], run_together[TINY_LENGTHS[0] :], atol=1e-2)
