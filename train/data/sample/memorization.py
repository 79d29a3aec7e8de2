"""Rows about the facts of `facts.yaml`: asked openly (memorization) and with four options (mcq).

Both name the same fact by the same seed address, so that a split by seed takes the whole fact out of training.

The exam asks for a known fact in a phrasing that training never uses. Its words do occur in training, in other
sentences, and it names the relation and the entity as they stand: what is tested is recall, not synonyms.
"""

import itertools
import random

from train.data.sample.rows import WORDS, build_row, leave_out_reasoning


OPTIONS_PER_MCQ = 4
MCQ_ROWS_PER_FACT = 4
MCQ_EXAM_EVERY_FACTS = 2
# One row in this many has no reasoning, as some of SYNTH's rows.
EMPTY_REASONING_EVERY_ROWS = 12

# Each has a `name`, `question_word`, `statement`, `own_phrasing`, and answers by entity: `facts`, and `exam_only`.
RELATIONS: list[dict] = WORDS["relations"]


def build_fact_row(
    relation: dict, fact: tuple[str, str], phrasing: str, exercise: str = "memorization", options: str = ""
) -> dict:
    """The reasoning is the one canonical form that every phrasing of a fact leads to."""
    name, word, (entity, answer) = relation["name"], relation["question_word"], fact
    return build_row(
        exercise=exercise,
        seed_path=f"{name}/{entity.lower().replace(' ', '-')}",
        seed_text=relation["statement"].format(entity=entity, answer=answer),
        query=phrasing.format(
            relation=name, entity=entity, question_word=word, Question_word=word.capitalize(), options=options
        ),
        reasoning=f"{name} of {entity} -> {answer}",
        answer=answer,
    )


def build_foreign_rows(capitals: dict, phrasing: str) -> list[dict]:
    return [
        build_row(
            exercise="memorization",
            seed_path=f"capital/{english_country.lower()}",
            seed_text=f"{country}: {city}.",
            query=phrasing.format(country=country),
            reasoning=f"{capitals['key_word']}: {country} -> {city}",
            answer=city,
            language=capitals["language"],
        )
        for english_country, (country, city) in capitals["facts"].items()
    ]


def build_memorization_rows(_: random.Random) -> tuple[list[dict], list[dict]]:
    """Train rows (every known fact in every phrasing) and exam rows."""
    train_rows, exam_rows = [], []
    for relation in RELATIONS:
        phrasings = (*WORDS["train_phrasings"], relation["own_phrasing"])
        for fact, phrasing in itertools.product(relation["facts"].items(), phrasings):
            train_rows.append(build_fact_row(relation, fact, phrasing))
        asked = relation["facts"] | relation["exam_only"]
        for fact, phrasing in itertools.product(asked.items(), WORDS["exam_phrasings"]):
            exam_rows.append(build_fact_row(relation, fact, phrasing))
    for row in train_rows[EMPTY_REASONING_EVERY_ROWS - 1 :: EMPTY_REASONING_EVERY_ROWS]:
        leave_out_reasoning(row)
    for capitals in WORDS["foreign_capitals"]:
        for phrasing in capitals["train_phrasings"]:
            train_rows += build_foreign_rows(capitals, phrasing)
        exam_rows += build_foreign_rows(capitals, capitals["exam_phrasing"])
    return train_rows, exam_rows


def draw_several_options(relation: dict, answer: str, count: int, rng: random.Random) -> list[str]:
    """Options with this answer among them, all different."""
    others = [other for other in relation["facts"].values() if other != answer]
    drawn: list[str] = []
    while len(drawn) < count:
        options = [answer, *rng.sample(others, OPTIONS_PER_MCQ - 1)]
        rng.shuffle(options)
        if (text := ", ".join(options)) not in drawn:
            drawn.append(text)
    return drawn


def build_mcq_rows(rng: random.Random) -> tuple[list[dict], list[dict]]:
    """Train and exam rows; an exam row shows options that training never showed for this fact."""
    train_rows, exam_rows = [], []
    for relation in RELATIONS:
        for fact_number, fact in enumerate(relation["facts"].items()):
            drawn = draw_several_options(relation, fact[1], MCQ_ROWS_PER_FACT + 1, rng)
            rows = [build_fact_row(relation, fact, WORDS["mcq_phrasing"], "mcq", options) for options in drawn]
            train_rows += rows[1:]
            if fact_number % MCQ_EXAM_EVERY_FACTS == 0:
                exam_rows.append(rows[0])
    return train_rows, exam_rows
