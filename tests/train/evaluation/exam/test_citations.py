import pytest

from train.data.rows.synth import reason_to_drop
from train.data.sample.copying import RAG_EXAM_ROWS
from train.evaluation.exam.answers import Answer
from train.evaluation.exam.citations import count_citations, expects_citations
from train.evaluation.exam.questions import load_exam


SOURCES = "<source_1>\nIt rains\nin Rome.\n</source_1>\n\n<source_2>\nIt snows in Oslo.\n</source_2>"
EXPECTED = 'It snows<ref name="source_2">It snows in Oslo.</ref>'


@pytest.fixture
def question(row):
    return row(0, exercise="rag", constraints=SOURCES, synthetic_answer=EXPECTED)


def counts(question, *texts: str):
    return count_citations([question] * len(texts), [Answer(text, True) for text in texts])


def test_a_right_answer_scores_in_full(question):
    found = counts(question, f"Reasoning:\nSee <source_1> and <source_2>.\n\nA: {EXPECTED}")
    names = ("exact", "citing", "precision", "recall", "true_quotes")
    assert [found[f"{name}_share"] for name in names] == [1.0] * 5
    assert found["exact_interval"][1] == 1.0
    assert found["cited"] == 1  # the reasoning's sources do not count


@pytest.mark.parametrize(
    ("text", "exact", "citing", "cited", "existing", "recalled", "quotes", "true_quotes"),
    [
        ("A: It snows.", 0, 0, 0, 0, 0, 0, 0),
        ('A: It rains<ref name="source_1">It rains in Rome.</ref>', 0, 1, 1, 1, 0, 1, 1),  # space does not matter
        ('A: It snows<ref name="source_2">It never snows.</ref>', 1, 1, 1, 1, 1, 1, 0),
        ('A: It snows<ref name="source_7">It snows in Oslo.</ref>', 0, 1, 1, 0, 0, 1, 0),
        ('A: Both<ref name="source_1">It rains</ref><ref name="source_2">It snows</ref>', 0, 1, 2, 2, 1, 2, 2),
        ('A: Nothing<ref name="source_2"> </ref>', 1, 1, 1, 1, 1, 1, 0),
        ("A: It snows [source 2].", 1, 1, 1, 1, 1, 0, 0),
        ("A: It snows <source_2>.", 1, 1, 1, 1, 1, 0, 0),
        ("", 0, 0, 0, 0, 0, 0, 0),
    ],
)
def test_what_an_answer_cites(question, text, exact, citing, cited, existing, recalled, quotes, true_quotes):
    found = counts(question, text)
    assert (found["answers"], found["expected"]) == (1, 1)
    assert (found["exact"], found["citing"], found["cited"], found["existing"]) == (exact, citing, cited, existing)
    assert (found["recalled"], found["quotes"], found["true_quotes"]) == (recalled, quotes, true_quotes)


def test_counts_are_summed_over_answers(question):
    found = counts(question, f"A: {EXPECTED}", "A: It snows.", 'A: It<ref name="source_9">x</ref>')
    assert (found["exact_share"], found["citing_share"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert (found["precision_share"], found["recall_share"]) == (0.5, pytest.approx(1 / 3))


def test_where_the_answer_does_not_cite_the_reasoning_is_scored(row):
    question = row(
        0, exercise="rag", constraints=SOURCES, synthetic_reasoning="source 2: Oslo", synthetic_answer="Oslo"
    )
    found = counts(
        question, "Reasoning:\nsource 2: Oslo\n\nA: Oslo", "Reasoning:\nsource 1: Rome\n\nA: Oslo", "A: Oslo"
    )
    assert (found["answers"], found["exact"], found["citing"]) == (3, 1, 2)


def test_only_rag_rows_that_cite_are_scored(row):
    silent = row(0, exercise="rag", constraints=SOURCES, synthetic_reasoning=None, synthetic_answer="Oslo")
    other = row(1, exercise="mcq", synthetic_answer="See source 1.")
    assert not expects_citations(silent)
    assert not expects_citations(other)
    assert count_citations([silent, other], [Answer("A: x", True)] * 2) is None


def test_all_rag_questions_of_the_sample_can_be_scored():
    rag = [row for row in load_exam("sample") if row["exercise"] == "rag"]
    assert len(rag) == RAG_EXAM_ROWS
    assert all(expects_citations(row) and reason_to_drop(row) is None for row in rag)
    expected = [
        Answer(f"Reasoning:\n{row['synthetic_reasoning']}\n\nA: {row['synthetic_answer']}", True) for row in rag
    ]
    assert count_citations(rag, expected)["exact"] == RAG_EXAM_ROWS
