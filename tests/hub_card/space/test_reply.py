"""Reasoning and answer are told apart at any point of the writing, and nothing that was shown is taken back."""

import pytest

from hub_card.space.local_page import split_reply


REASONING = "Reasoning:\nA novel.\n\nAusten wrote it.\n\nA: Jane\n\nA: no more"


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        (REASONING, ("A novel.\n\nAusten wrote it.", "Jane\n\nA: no more")),
        ("A: Jane", ("", "Jane")),
        ("Reasoning:\n\n\nA: Jane", ("", "Jane")),
        ("Reasoning:\nA novel", ("A novel", "")),
        ("once upon a time", ("", "once upon a time")),
        ("Reasoning is hard", ("", "Reasoning is hard")),
        ("A:   a\n\n\n    b\n", ("", "  a\n\n\n    b\n")),
        ("Reasoning:\n  a\n    b\n\n\n\nA:  c", ("  a\n    b", " c")),
        (" once", ("", " once")),
        ("A:", ("", "")),
        ("", ("", "")),
    ],
)
def test_a_text_is_taken_apart(text, reply):
    assert split_reply(text) == reply


@pytest.mark.parametrize(
    "text", [REASONING, "Reasoning:\n a \n\n\n\nA:  b \n", "A: Jane Austen, in 1815", "once upon a time"]
)
def test_what_is_shown_only_grows(text):
    whole = split_reply(text)
    for length in range(len(text)):
        for part, final in zip(split_reply(text[:length]), whole, strict=True):
            assert final.startswith(part)
