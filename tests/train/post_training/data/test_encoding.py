"""Conversations to ids: those of pre-training, and the loss on what the assistant says and on its end."""

from itertools import groupby

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from modeling_gpt2scratch import TOKENIZER_FOLDER
from train.data.files.sources import SAMPLE_FOLDER
from train.data.rows.conversations import row_to_messages
from train.data.rows.synth import BLANK, question_to_ids, row_to_question, row_to_text
from train.post_training.data.encoding import NO_LOSS, encode_conversations


TOKENIZER = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
END = TOKENIZER.eos_token_id
CHAT = [
    {"role": "system", "content": "Sé brief 🤖."},
    {"role": "user", "content": "Why é?"},
    {"role": "assistant", "content": "So.", "reasoning_content": "It 🤖 is."},
    {"role": "user", "content": "And then?"},
    {"role": "assistant", "content": "Nothing."},
]


def encode(conversations):
    return encode_conversations(conversations, TOKENIZER)


def learnt(encoded) -> list[str]:
    """The texts that the loss is on, one for each answer."""
    runs = groupby(encoded.labels, lambda label: label != NO_LOSS)
    return [TOKENIZER.decode(list(labels)) for is_learnt, labels in runs if is_learnt]


def test_the_ids_are_those_of_pre_training():
    rows = pq.read_table(SAMPLE_FOLDER / "train.parquet").to_pylist()
    encoded = encode([row_to_messages(row)[0] for row in rows])
    for row, conversation in zip(rows, encoded, strict=True):
        text = row_to_text(row)
        assert conversation.input_ids == [*TOKENIZER(text, split_special_tokens=True)["input_ids"], END]
        (turn,) = conversation.turns
        # The answer begins where a question that is asked ends.
        assert conversation.input_ids[: turn[0]] == question_to_ids(row_to_question(row), TOKENIZER)
        assert turn[1] == len(conversation.input_ids)


def test_the_loss_is_on_each_answer_and_its_end():
    (encoded,) = encode([CHAT])
    assert TOKENIZER.decode(encoded.input_ids) == (
        "Sé brief 🤖.\n\nQ: Why é?\n\nReasoning:\nIt 🤖 is.\n\nA: So.<|endoftext|>"
        "Q: And then?\n\nA: Nothing.<|endoftext|>"
    )
    assert learnt(encoded) == ["Reasoning:\nIt 🤖 is.\n\nA: So.<|endoftext|>", "A: Nothing.<|endoftext|>"]
    assert [label for label in encoded.labels if label == END] == [END, END]


def test_ids_and_mask_are_those_of_the_chat_template():
    (encoded,) = encode([CHAT])
    expected = TOKENIZER.apply_chat_template(CHAT, return_assistant_tokens_mask=True, return_dict=True)
    assert encoded.input_ids == expected["input_ids"]
    assert [label != NO_LOSS for label in encoded.labels] == [bool(mask) for mask in expected["assistant_masks"]]


def test_the_text_of_the_end_token_ends_nothing():
    chat = [
        {"role": "user", "content": "Write <|endoftext|>"},
        {"role": "assistant", "content": "<|endoftext|> it is"},
    ]
    (encoded,) = encode([chat])
    assert encoded.input_ids.count(END) == 1
    assert encoded.input_ids[-1] == END
    assert TOKENIZER.decode(encoded.input_ids) == "Q: Write <|endoftext|>\n\nA: <|endoftext|> it is<|endoftext|>"


text = st.text(max_size=12).map(lambda found: found.replace("\0", "").strip(BLANK)).filter(bool)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(text, text, st.none() | text), min_size=1, max_size=3))
def test_any_text_comes_back_and_is_learnt_exactly(turns):
    chat, expected = [], []
    for question, answer, reasoning in turns:
        reply = {"role": "assistant", "content": answer} | ({"reasoning_content": reasoning} if reasoning else {})
        chat += [{"role": "user", "content": question}, reply]
        expected.append((f"Reasoning:\n{reasoning}\n\n" if reasoning else "") + f"A: {answer}<|endoftext|>")
    (encoded,) = encode([chat])
    found = [TOKENIZER.decode(encoded.input_ids[begin:end]) for begin, end in encoded.turns]
    assert found == expected


@pytest.mark.parametrize(("room", "turns"), [(0, 2), (1, 1)])
def test_turns_that_do_not_fit_are_left_off_whole(room, turns):
    (encoded,) = encode([CHAT])
    fitted = encoded.fitted(len(encoded.input_ids) - room)
    assert len(fitted.turns) == turns
    assert fitted.input_ids == encoded.input_ids[: encoded.turns[turns - 1][1]]
    assert fitted.input_ids[-1] == END


def test_a_conversation_whose_first_answer_does_not_fit_is_left_out():
    (encoded,) = encode([CHAT])
    assert encoded.fitted(encoded.turns[0][1]) is not None
    assert encoded.fitted(encoded.turns[0][1] - 1) is None


def test_no_conversations_are_no_ids():
    assert encode([]) == []
