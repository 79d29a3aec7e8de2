"""Tells the reasoning in a reply from the answer, also while the model still writes."""

REASONING = "Reasoning:\n"
ANSWER = "A: "


def split_reply(text: str) -> tuple[str, str]:
    """Reasoning and answer, each empty while there is none.

    A text in another form than the training rows is an answer as a whole. A mark that is only begun is not shown.
    """
    text = text.lstrip()
    if REASONING.startswith(text) or ANSWER.startswith(text):
        return "", ""
    if not text.startswith(REASONING):
        return "", text.removeprefix(ANSWER).strip()
    reasoning, _, answer = text.removeprefix(REASONING).partition(f"\n\n{ANSWER}")
    return reasoning.removesuffix("\n\nA:").removesuffix("\n\nA").strip(), answer.strip()
