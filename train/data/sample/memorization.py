"""Rows about facts: asked openly (memorization) and with four options (mcq).

Both name the same fact by the same seed address, so that a split by seed takes the whole fact out of training.
"""

import random
from collections.abc import Iterator

from train.data.sample.facts import EXAM_PHRASINGS, FOREIGN_CAPITALS, RELATIONS, ForeignCapitals, Relation
from train.data.sample.rows import build_row


OPTIONS_PER_MCQ = 4
MCQ_EXAM_EVERY_FACTS = 3
# One row in this many has no reasoning, as some of SYNTH's rows.
EMPTY_REASONING_EVERY_ROWS = 12


def build_fact_row(
    relation: Relation, entity: str, answer: str, query: str, exercise: str, with_reasoning: bool = True
) -> dict:
    """The reasoning is the one canonical form that every phrasing of a fact leads to."""
    return build_row(
        exercise=exercise,
        seed_path=f"{relation.name}/{entity.lower().replace(' ', '-')}",
        seed_text=relation.statement.format(entity=entity, answer=answer),
        query=query,
        reasoning=f"{relation.name} of {entity} -> {answer}" if with_reasoning else "",
        answer=answer,
    )


def iterate_memorization_train() -> Iterator[dict]:
    row_number = 0
    for relation in RELATIONS:
        for entity, answer in relation.facts.items():
            for phrasing in relation.train_phrasings:
                row_number += 1
                with_reasoning = row_number % EMPTY_REASONING_EVERY_ROWS != 0
                query = relation.ask(phrasing, entity)
                yield build_fact_row(
                    relation, entity, answer, query, exercise="memorization", with_reasoning=with_reasoning
                )
    for capitals in FOREIGN_CAPITALS:
        for phrasing in capitals.train_phrasings:
            yield from iterate_foreign_rows(capitals, phrasing)


def iterate_memorization_exam() -> Iterator[dict]:
    for relation in RELATIONS:
        for entity, answer in (relation.facts | relation.exam_only).items():
            for phrasing in EXAM_PHRASINGS:
                yield build_fact_row(relation, entity, answer, relation.ask(phrasing, entity), exercise="memorization")
    for capitals in FOREIGN_CAPITALS:
        yield from iterate_foreign_rows(capitals, capitals.exam_phrasing)


def iterate_foreign_rows(capitals: ForeignCapitals, phrasing: str) -> Iterator[dict]:
    for english_country, (country, city) in capitals.facts.items():
        yield build_row(
            exercise="memorization",
            seed_path=f"capital/{english_country.lower()}",
            seed_text=f"{country}: {city}.",
            query=phrasing.format(country=country),
            reasoning=f"{capitals.key_word}: {country} -> {city}",
            answer=city,
            language=capitals.language,
        )


def build_mcq_row(relation: Relation, entity: str, answer: str, options: list[str]) -> dict:
    """The answer is the option itself, not a letter: looking a letter up is beyond a model of this size."""
    query = f"Pick the {relation.name} of {entity}: {', '.join(options)}"
    return build_fact_row(relation, entity, answer, query, exercise="mcq")


def draw_options(relation: Relation, answer: str, rng: random.Random) -> list[str]:
    others = [other for other in relation.facts.values() if other != answer]
    options = [answer, *rng.sample(others, OPTIONS_PER_MCQ - 1)]
    rng.shuffle(options)
    return options


def build_mcq_rows(rng: random.Random) -> tuple[list[dict], list[dict]]:
    """Train and exam rows; an exam row shows options that training never showed for this fact."""
    train_rows, exam_rows = [], []
    for relation in RELATIONS:
        for fact_number, (entity, answer) in enumerate(relation.facts.items()):
            shown = draw_options(relation, answer, rng)
            train_rows.append(build_mcq_row(relation, entity, answer, shown))
            if fact_number % MCQ_EXAM_EVERY_FACTS == 0:
                while (options := draw_options(relation, answer, rng)) == shown:
                    pass
                exam_rows.append(build_mcq_row(relation, entity, answer, options))
    return train_rows, exam_rows
