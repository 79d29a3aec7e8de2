"""Rows whose answer stands in the prompt: rag over `<source_N>` blocks, and editing. Each instance has its own seed."""

import itertools
import random
from collections.abc import Iterator

from train.data.sample.rows import build_row


PEOPLE = ("Tom", "Anna", "Paul", "Mary", "John", "Lucy", "Peter", "Jane", "Mark", "Rose", "Adam", "Emily")
TOWNS = ("Boston", "London", "Geneva", "Milan", "Dallas", "Munich", "Lyon", "Sydney", "Denver", "Bristol")
TRADES = ("baker", "nurse", "pilot", "lawyer", "farmer", "singer", "painter", "teacher", "miner", "driver")
# (how a source says it, how a question asks for it, possible values)
ATTRIBUTES = (
    ("{person} lives in {value}", "Where does {person} live?", TOWNS),
    ("{person} is a {value}", "What is the job of {person}?", TRADES),
)
# One source for each attribute, in either order: the question decides which one answers it.
SOURCES_PER_ROW = len(ATTRIBUTES)
RAG_TRAIN_ROWS, RAG_EXAM_ROWS = 40, 24

THINGS = ("cup", "book", "lamp", "chair", "coat", "bell", "door", "shoe", "ring", "hat")
COLOURS = ("red", "blue", "green", "black", "white", "brown", "pink", "grey")
EDIT_EXAM_ROWS = 24


def iterate_rag_rows(rng: random.Random) -> Iterator[dict]:
    """Endless; the caller stops. No two rows have the same sources."""
    seen = set()
    for number in itertools.count(1):
        attributes = rng.sample(ATTRIBUTES, SOURCES_PER_ROW)
        people = rng.sample(PEOPLE, SOURCES_PER_ROW)
        chosen = [rng.choice(values) for _, _, values in attributes]
        sentences = [
            statement.format(person=person, value=value)
            for (statement, _, _), person, value in zip(attributes, people, chosen, strict=True)
        ]
        if frozenset(sentences) in seen:
            continue
        seen.add(frozenset(sentences))
        asked = rng.randrange(SOURCES_PER_ROW)
        yield build_row(
            exercise="rag",
            seed_path=f"rag/{number:04d}",
            seed_text=" ".join(sentences),
            query=attributes[asked][1].format(person=people[asked]),
            reasoning=f"source {asked + 1}: {chosen[asked]}",
            answer=chosen[asked],
            constraints="\n".join(f"<source_{i}>{s}</source_{i}>" for i, s in enumerate(sentences, start=1)),
        )


def build_rag_rows(rng: random.Random) -> tuple[list[dict], list[dict]]:
    rows = list(itertools.islice(iterate_rag_rows(rng), RAG_TRAIN_ROWS + RAG_EXAM_ROWS))
    return rows[:RAG_TRAIN_ROWS], rows[RAG_TRAIN_ROWS:]


def build_editing_rows(rng: random.Random) -> tuple[list[dict], list[dict]]:
    """Add a colour to a phrase, or take it away: every thing with every colour, each pair edited one way."""
    rows = []
    for number, (thing, colour) in enumerate(itertools.product(THINGS, COLOURS)):
        bare, coloured = f"the {thing}", f"the {colour} {thing}"
        if number % 3 == 0:
            query, answer = f"Remove the colour: {coloured}", bare
        else:
            query, answer = f"Add the colour {colour}: {bare}", coloured
        rows.append(
            build_row(
                exercise="editing",
                seed_path=f"editing/{colour}-{thing}",
                seed_text=f"{bare}, {coloured}",
                query=query,
                reasoning="",
                answer=answer,
            )
        )
    rng.shuffle(rows)
    return rows[EDIT_EXAM_ROWS:], rows[:EDIT_EXAM_ROWS]
