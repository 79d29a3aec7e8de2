"""Tells the reasoning in a reply from the answer, also while the model still writes."""

REASONING = "Reasoning:\n"
ANSWER = "A: "


def split_reply(text: str) -> tuple[str, str]:
    """Reasoning and answer, each empty while there is none.

    A text in another form than the training rows is an answer as a whole. A mark that is only begun is not shown, nor
    the line ends behind reasoning, which may belong to one; else space stays as it was written.
    """
    begun = text.lstrip()
    if REASONING.startswith(begun) or ANSWER.startswith(begun):
        return "", ""
    if not begun.startswith(REASONING):
        return "", begun.removeprefix(ANSWER) if begun.startswith(ANSWER) else text
    reasoning, _, answer = begun.removeprefix(REASONING).partition(f"\n\n{ANSWER}")
    return reasoning.removesuffix("\n\nA:").removesuffix("\n\nA").rstrip("\n"), answer
