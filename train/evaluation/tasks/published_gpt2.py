"""Published figures of OpenAI's GPT-2 small (124M) on tasks of lm-evaluation-harness, each with its source.

Those of the harness are comparable with its figures of another model; those of other texts say so in their note.
"""

# Guidance strength 1, which is the model as it is, in EleutherAI's harness. The table rounds to three digits; the
# fourth, and `acc` beside `acc_norm`, are from the paper's raw results.
GUIDANCE = "Sanchez et al., Stay on topic with Classifier-Free Guidance, 2023, arXiv 2306.17806, table 2 (guidance 1)"
LAMBADA_ISSUE = "EleutherAI/lm-evaluation-harness, issue 2159 (openai-community/gpt2, 2024)"
LLM_C = "karpathy/llm.c, dev/data/hellaswag.py (Eleuther harness)"
LLM_C_MMLU = "karpathy/llm.c, dev/data/mmlu.py"
LEADERBOARD = "Open LLM Leaderboard, in the model card of openai-community/gpt2"
PAPER = "Radford et al., Language Models are Unsupervised Multitask Learners, 2019, table 3 (117M)"
# What makes a figure incomparable with the harness's own
OWN_TEXTS = "the paper's own preparation of the texts"
TEXTS_NOT_LETTERS = "another form of the question: the answers' texts are scored, and not their letters"

# Task and metric by the harness's names; value, solved examples, source, note; comparable ones first
PUBLISHED: dict[tuple[str, str], list[tuple[float, int, str, str]]] = {
    ("hellaswag", "acc"): [(0.2892, 0, LLM_C, "")],
    ("hellaswag", "acc_norm"): [(0.3114, 0, LLM_C, ""), (0.3153, 10, LEADERBOARD, "")],
    ("arc_easy", "acc"): [(0.4381, 0, GUIDANCE, "")],
    ("arc_easy", "acc_norm"): [(0.3948, 0, GUIDANCE, "")],
    ("arc_challenge", "acc"): [(0.1903, 0, GUIDANCE, "")],
    ("arc_challenge", "acc_norm"): [(0.2270, 0, GUIDANCE, ""), (0.2201, 25, LEADERBOARD, "")],
    ("piqa", "acc"): [(0.6289, 0, GUIDANCE, "")],
    ("piqa", "acc_norm"): [(0.6251, 0, GUIDANCE, "")],
    ("winogrande", "acc"): [(0.5162, 0, GUIDANCE, "")],
    ("sciq", "acc"): [(0.750, 0, GUIDANCE, "")],
    ("sciq", "acc_norm"): [(0.644, 0, GUIDANCE, "")],
    ("lambada_openai", "acc"): [(0.3256, 0, LAMBADA_ISSUE, ""), (0.4599, 0, PAPER, OWN_TEXTS)],
    ("lambada_openai", "perplexity"): [(40.06, 0, LAMBADA_ISSUE, ""), (35.13, 0, PAPER, OWN_TEXTS)],
    ("wikitext", "word_perplexity"): [(29.41, 0, PAPER, OWN_TEXTS)],
    ("mmlu", "acc"): [(0.2557, 0, LLM_C_MMLU, TEXTS_NOT_LETTERS)],
}


def published_figures(task: str, metric: str) -> list[dict]:
    """`gpt2_small` of a task's metric, as it stands in evaluation.json."""
    found = PUBLISHED.get((task, metric), [])
    return [{"value": value, "shots": shots, "source": source, "note": note} for value, shots, source, note in found]
