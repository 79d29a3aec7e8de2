"""What others published of stock GPT-2 small (124M) on tasks of lm-evaluation-harness, each with its source.

Only figures that were found in their source. Those of the harness itself are comparable with what it says of another
model; those under another preparation of the texts are not, and say so in their note.
"""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class PublishedFigure:
    """
    Args:
        task, metric: the harness's names.
        shots: solved examples before each question.
        note: what makes it incomparable with the harness's own figure; empty where nothing does.
    """

    task: str
    metric: str
    value: float
    shots: int
    source: str
    note: str = ""


# Guidance strength 1, which is the model as it is, in EleutherAI's harness. The table rounds to three digits; the
# fourth, and `acc` beside `acc_norm`, are from the paper's raw results.
GUIDANCE = "Sanchez et al., Stay on topic with Classifier-Free Guidance, 2023, arXiv 2306.17806, table 2 (guidance 1)"
LAMBADA_ISSUE = "EleutherAI/lm-evaluation-harness, issue 2159 (openai-community/gpt2, 2024)"
LLM_C = "karpathy/llm.c, dev/data/hellaswag.py (Eleuther harness)"
LEADERBOARD = "Open LLM Leaderboard, in the model card of openai-community/gpt2"
PAPER = "Radford et al., Language Models are Unsupervised Multitask Learners, 2019, table 3 (117M)"
OWN_TEXTS = "the paper's own preparation of the texts"

PUBLISHED = (
    PublishedFigure("hellaswag", "acc", 0.2892, 0, LLM_C),
    PublishedFigure("hellaswag", "acc_norm", 0.3114, 0, LLM_C),
    PublishedFigure("hellaswag", "acc_norm", 0.3153, 10, LEADERBOARD),
    PublishedFigure("arc_easy", "acc", 0.4381, 0, GUIDANCE),
    PublishedFigure("arc_easy", "acc_norm", 0.3948, 0, GUIDANCE),
    PublishedFigure("arc_challenge", "acc", 0.1903, 0, GUIDANCE),
    PublishedFigure("arc_challenge", "acc_norm", 0.2270, 0, GUIDANCE),
    PublishedFigure("arc_challenge", "acc_norm", 0.2201, 25, LEADERBOARD),
    PublishedFigure("piqa", "acc", 0.6289, 0, GUIDANCE),
    PublishedFigure("piqa", "acc_norm", 0.6251, 0, GUIDANCE),
    PublishedFigure("winogrande", "acc", 0.5162, 0, GUIDANCE),
    PublishedFigure("sciq", "acc", 0.750, 0, GUIDANCE),
    PublishedFigure("sciq", "acc_norm", 0.644, 0, GUIDANCE),
    PublishedFigure("lambada_openai", "acc", 0.3256, 0, LAMBADA_ISSUE),
    PublishedFigure("lambada_openai", "perplexity", 40.06, 0, LAMBADA_ISSUE),
    PublishedFigure("lambada_openai", "acc", 0.4599, 0, PAPER, OWN_TEXTS),
    PublishedFigure("lambada_openai", "perplexity", 35.13, 0, PAPER, OWN_TEXTS),
    PublishedFigure("wikitext", "word_perplexity", 29.41, 0, PAPER, OWN_TEXTS),
    PublishedFigure(
        "mmlu",
        "acc",
        0.2557,
        0,
        "karpathy/llm.c, dev/data/mmlu.py",
        "another form of the question: the answers' texts are scored, and not their letters",
    ),
)


def published_figures(task: str, metric: str) -> list[dict]:
    """`gpt2_small` of a task's metric, as it stands in evaluation.json; comparable ones first."""
    found = [figure for figure in PUBLISHED if (figure.task, figure.metric) == (task, metric)]
    found.sort(key=lambda figure: bool(figure.note))
    return [{key: value for key, value in asdict(figure).items() if key not in ("task", "metric")} for figure in found]
