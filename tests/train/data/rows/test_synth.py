import pytest

from train.data.rows.row_filter import RowFilter
from train.data.rows.synth import (
    FAILED_GENERATION,
    TEXT_COLUMNS,
    WRITTEN_NULLS,
    articles,
    question_to_ids,
    reason_to_drop,
    repair,
    row_to_question,
    row_to_text,
    split_answer,
    split_of,
)


# Space, and what shows nothing: zero-width and direction marks, soft hyphen, byte order mark, NUL.
INVISIBLE = "\u200b\u200d\u200e\u2060\xad\ufeff\0 \u3000\xa0\n"
SOURCES = "<source_1>\nThe river is 10 km long.\n</source_1>"


def test_text_has_question_reasoning_and_answer(row):
    text = row_to_text(row(0, query=" Why? ", synthetic_reasoning="Because.\n", synthetic_answer="So."))
    assert text == "Q: Why?\n\nReasoning:\nBecause.\n\nA: So."


@pytest.mark.parametrize("reasoning", [None, "", "  \n", INVISIBLE, "None", " nan "])
def test_text_without_reasoning_goes_straight_to_the_answer(row, reasoning):
    text = row_to_text(row(0, query="Why?", synthetic_reasoning=reasoning, synthetic_answer="So."))
    assert text == "Q: Why?\n\nA: So."


def test_what_shows_nothing_is_cut_off_the_ends_of_the_text(row):
    one = row(0, query=f"{INVISIBLE}Why?", synthetic_reasoning=None, synthetic_answer=f"So.{INVISIBLE}")
    assert row_to_text(one) == "Q: Why?\n\nA: So."


def test_sources_of_a_rag_row_stand_before_the_question(row):
    text = row_to_text(row(0, exercise="rag", constraints=SOURCES, query="How long?"))
    assert text.startswith(f"{SOURCES}\n\nQ: How long?\n\nReasoning:\n")


def test_constraints_of_other_exercises_stay_out_of_the_text(row):
    text = row_to_text(row(0, exercise="constrained writing", constraints="must_include: river"))
    assert "must_include" not in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"query": None}, "no question"),
        ({"query": " \n"}, "no question"),
        ({"query": INVISIBLE}, "no question"),
        ({"query": f"{INVISIBLE}Why?{INVISIBLE}"}, None),
        ({"query": "null"}, "question or answer is a written null"),
        ({"query": "Is it null?"}, None),
        ({"synthetic_answer": None}, "no answer"),
        ({"synthetic_answer": ""}, "no answer"),
        ({"synthetic_answer": INVISIBLE}, "no answer"),
        ({"synthetic_answer": "0"}, None),
        *(
            ({"synthetic_answer": f" {null}\n"}, "question or answer is a written null")
            for null in sorted(WRITTEN_NULLS)
        ),
        ({"constraints": FAILED_GENERATION}, "failed generation"),
        ({"exercise": "rag"}, "rag without sources"),
        ({"exercise": "rag", "constraints": SOURCES}, None),
        ({"language": "fr"}, "other language"),
        ({"language": None}, "other language"),
        ({"exercise": "cooking"}, "other exercise"),
    ],
)
def test_reason_to_drop(row, changes, reason):
    row_filter = RowFilter(["en"], ["memorization", "rag"], validation_fraction=0)
    assert row_filter.judge(row(0, **changes)) == (reason, "train", int(reason is None))


def test_without_a_choice_every_language_and_exercise_is_kept(row):
    assert reason_to_drop(row(0, language="fr", exercise="cooking")) is None


def test_rows_of_one_article_fall_on_the_same_side(row):
    sides = [
        {(split_of(row(number, query_seed_url=f"a://{article}"), 0.3, 0) == "validation") for number in range(5)}
        for article in range(100)
    ]
    assert all(len(side) == 1 for side in sides)


def test_the_validation_share_is_as_asked_and_another_seed_holds_out_others(row):
    rows = [row(number) for number in range(4000)]
    validation = [(split_of(one, 0.1, split_seed=0) == "validation") for one in rows]
    others = [(split_of(one, 0.1, split_seed=1) == "validation") for one in rows]
    assert 0.08 < sum(validation) / len(rows) < 0.12
    assert validation != others


def test_rows_without_an_article_are_split_by_question(row):
    rows = [row(number, query_seed_url=None, query="The same?") for number in range(5)]
    assert len({(split_of(one, 0.5, 0) == "validation") for one in rows}) == 1


@pytest.mark.parametrize("url", ["None", "nan", " ", None])
def test_a_written_null_is_no_article(row, url):
    one, other = (row(number, query_seed_url=url, additional_seed_url=url) for number in range(2))
    assert articles(one) == [one["query"]]
    assert articles(other) == [other["query"]]


SEED, PARIS, OHM = (
    "test://number/0",
    "https://en.wikipedia.org/wiki/Paris,_Texas",
    "https://en.wikipedia.org/wiki/Ohm's_law",
)


@pytest.mark.parametrize(
    ("links", "linked"),
    [
        (None, []),
        ("\u200b", []),
        ("[]", []),
        (PARIS, [PARIS]),
        (f"{PARIS}, {OHM}", [PARIS, OHM]),
        (f"{PARIS},{OHM}", [PARIS, OHM]),
        (f"{PARIS};{OHM}|{PARIS}", [PARIS, OHM, PARIS]),
        (f"{PARIS}\n{OHM};", [PARIS, OHM]),
        (f"['{PARIS}', \"{OHM}\"]", [PARIS, OHM]),
        (f'["{PARIS}","{OHM}"]', [PARIS, OHM]),
        ("https://web.archive.org/web/2020/https://a.org/", ["https://web.archive.org/web/2020/https://a.org/"]),
        (" Q90 ", ["Q90"]),
    ],
)
def test_a_row_touches_its_seed_article_and_those_that_it_links_to(row, links, linked):
    assert articles(row(0, query_seed_url=SEED, additional_seed_url=links)) == [SEED, *linked]


def test_an_absent_column_of_links_is_none(row):
    one = row(0)
    del one["additional_seed_url"]
    assert articles(one) == [SEED]


def test_a_row_that_links_to_both_parts_belongs_to_neither(row):
    rows = [row(number) for number in range(200)]
    validation = next(one["query_seed_url"] for one in rows if split_of(one, 0.5, 0) == "validation")
    trained = next(one["query_seed_url"] for one in rows if split_of(one, 0.5, 0) == "train")
    linked = {
        (seed, link): split_of(row(0, query_seed_url=seed, additional_seed_url=link), 0.5, 0)
        for seed in (validation, trained)
        for link in (validation, trained)
    }
    assert linked == {
        (validation, validation): "validation",
        (validation, trained): None,
        (trained, validation): None,
        (trained, trained): "train",
    }


def test_a_linked_article_falls_on_the_side_that_it_has_as_a_seed(row):
    for number in range(50):
        url = f"https://en.wikipedia.org/wiki/Number_{number},_a_number's_page"
        side = split_of(row(0, query_seed_url=url), 0.5, 0)
        assert split_of(row(0, query_seed_url=url, additional_seed_url=f"['{url}']"), 0.5, 0) == side


def test_nothing_or_all_is_validation_at_the_ends_of_the_range(row):
    rows = [row(number) for number in range(100)]
    assert {split_of(one, 0.0, 0) for one in rows} == {"train"}
    assert {split_of(one, 1.0, 0) for one in rows} == {"validation"}


@pytest.mark.parametrize("column", TEXT_COLUMNS)
@pytest.mark.parametrize(
    ("written", "repaired", "found"),
    [
        (None, None, []),
        ("Déjà\nvu\t😀 \u200b\x07", "Déjà\nvu\t😀 \u200b\x07", []),
        ("a\r\nb\rc\n\r", "a\nb\nc\n\n", ["CR line ends"]),
        ("a\0b\0", "ab", ["NUL characters"]),
        ("a\ud800b\udc00", "a\ufffdb\ufffd", ["lone surrogates"]),
        ("\ufeffa\udfff", "\ufeffa\ufffd", ["lone surrogates"]),
        ("\ud83d\ude00", "😀", ["lone surrogates"]),  # two halves that belong together
        ("\r\0\ud83d", "\n\ufffd", ["CR line ends", "NUL characters", "lone surrogates"]),
    ],
)
def test_traces_of_broken_tools_are_repaired_and_named(row, column, written, repaired, found):
    one = row(0, **{column: written})
    assert repair(one) == found
    assert one == row(0, **{column: repaired})
    if repaired is not None:
        one[column].encode()


def test_a_repair_is_named_once_for_a_row(row):
    assert repair(row(0, query="a\r", synthetic_answer="b\r")) == ["CR line ends"]


def test_a_row_that_is_repaired_to_nothing_is_dropped(row):
    one = row(0, synthetic_answer="\0\r\n\0")
    repair(one)
    assert reason_to_drop(one) == "no answer"


def test_a_written_end_of_text_stays_text(row, tokenizer):
    one = row(0, query="What does <|endoftext|> mean?")
    assert "Q: What does <|endoftext|> mean?\n\n" in row_to_text(one)
    assert tokenizer.eos_token_id not in question_to_ids(row_to_question(one), tokenizer)


@pytest.mark.parametrize("reasoning", ["It does.", None])
@pytest.mark.parametrize("query", ["Why?", "Ends in a number 12", "Endet mit einem Strich –", 'He said "so"'])
def test_question_ids_are_the_beginning_of_the_texts_ids(row, tokenizer, query, reasoning):
    one = row(0, query=query, synthetic_reasoning=reasoning)
    asked = question_to_ids(row_to_question(one), tokenizer)
    text = tokenizer(row_to_text(one))["input_ids"]
    assert text[: len(asked)] == asked
    assert tokenizer.decode(text[len(asked) :]).startswith(("Reasoning:", "A:"))


@pytest.mark.parametrize(
    ("before", "answer"),
    [
        ("A: ", "Paris"),
        ("Reasoning:\nFrance.\n\nA: ", "Paris\n"),
        ("Reasoning:\nA: is a letter.\n\nA: ", "Paris"),
        ("Reasoning:\nstill thinking", ""),
        ("USA: Paris", ""),
        ("  no answer  A: here", ""),
        ("", ""),
    ],
)
def test_the_answer_is_what_follows_the_last_mark_and_no_character_is_lost(before, answer):
    assert split_answer(before + answer) == (before, answer)
