"""Questions as token ids, in the form that the model was trained on.

    Q: {question}

    Reasoning:
    {reasoning}

    A: {answer}<|endoftext|>

The ids are those of the tokenizer's chat template, with two differences: the text `<|endoftext|>` in a question stays
text, and the model decides whether it reasons.
"""

from transformers import PreTrainedTokenizerBase


CONTINUATION = "A"


def build_prompt(
    tokenizer: PreTrainedTokenizerBase, question: str, earlier: list[dict], context: int, reply_tokens: int
) -> list[int]:
    """The question, after as many of the earlier messages as leave room for the reply; a `ValueError` where there is no
    question, or it alone fills the context.

    The messages are the page's, oldest first: each has a role, a content, and a title where it is reasoning. Prompt and
    reply may take `context` tokens together; earlier messages leave the reply half of that at most.
    """
    if not question.strip():
        raise ValueError("Please write a question first.")
    # GPT-2 encodes a blank line at the end of a string as one token and inside a text as two.
    ids = _encode(tokenizer, f"Q: {_clean(question)}\n\n{CONTINUATION}")[: -len(CONTINUATION)]
    if len(ids) >= context:
        raise ValueError(
            f"This question has {len(ids):,} tokens, and the model reads {context:,} at most, question and answer "
            "together. Please shorten it."
        )
    room = context - min(reply_tokens, context // 2)
    for turn in reversed(_join_turns(earlier)):
        longer = [*_encode(tokenizer, turn), tokenizer.eos_token_id, *ids]
        if len(longer) > room:
            break
        ids = longer
    return ids


def _join_turns(messages: list[dict]) -> list[str]:
    """The questions that have an answer, with reasoning and answer, as texts."""
    turns, text = [], ""
    for message in messages:
        content = text_of(message)
        if message["role"] == "user":
            text = f"Q: {_clean(content)}\n\n"
        elif (message.get("metadata") or {}).get("title"):
            text += f"Reasoning:\n{content}\n\n"
        else:
            turns.append(f"{text}A: {content}")
    return turns


def text_of(message: dict) -> str:
    """A content is a text, or a list of parts: from the page with a type, from a clicked example without."""
    parts = [message["content"]] if isinstance(message["content"], str) else message["content"]
    return "".join(part if isinstance(part, str) else part["text"] for part in parts)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"]


def _clean(question: str) -> str:
    """As in training: no space around it, LF line ends; and no halves of surrogate pairs, which have no UTF-8."""
    return question.strip().replace("\r\n", "\n").encode(errors="replace").decode()
