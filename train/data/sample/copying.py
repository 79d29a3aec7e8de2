"""Rows whose answer stands in the prompt: rag over `<source_N>` blocks, and editing. Each instance has its own seed."""

import itertools
import random
from collections.abc import Iterator

from train.data.sample.rows import WORDS, build_row


# Each source tells one thing of one person. In half of the rows both tell the same kind of thing: then only the person
# decides which one answers.
SOURCES_PER_ROW = 2
RAG_TRAIN_ROWS, RAG_EXAM_ROWS = 1600, 40
EDIT_EXAM_ROWS = 40


def iterate_rag_rows(rng: random.Random, people: list[str]) -> Iterator[dict]:
    """Endless; the caller stops. No two rows have the same sources."""
    seen = set()
    for number in itertools.count(1):
        attributes = rng.choices(rng.sample(WORDS["attributes"], 2), k=SOURCES_PER_ROW)
        named = rng.sample(people, SOURCES_PER_ROW)
        chosen = [rng.choice(attribute["values"]) for attribute in attributes]
        sentences = [
            attribute["statement"].format(person=person, value=value)
            for attribute, person, value in zip(attributes, named, chosen, strict=True)
        ]
        if frozenset(sentences) in seen:
            continue
        seen.add(frozenset(sentences))
        asked = rng.randrange(SOURCES_PER_ROW)
        yield build_row(
            exercise="rag",
            seed_path=f"rag/{number:04d}",
            seed_text=" ".join(sentences),
            query=attributes[asked]["question"].format(person=named[asked]),
            reasoning=f"{sentences[asked]}, source {asked + 1}",
            answer=chosen[asked],
            constraints="\n".join(f"<source_{i}>{s}</source_{i}>" for i, s in enumerate(sentences, start=1)),
        )


def build_rag_rows(rng: random.Random) -> tuple[list[dict], list[dict]]:
    rows = list(itertools.islice(iterate_rag_rows(rng, WORDS["people"]), RAG_TRAIN_ROWS + RAG_EXAM_ROWS))
    return rows[:RAG_TRAIN_ROWS], rows[RAG_TRAIN_ROWS:]


def build_editing_rows(rng: random.Random) -> tuple[list[dict], list[dict]]:
    """Add a colour to a phrase, take it away, or put another in its place: every thing with every colour. Training has
    all three edits of a pair, or none."""
    pairs = list(itertools.product(WORDS["things"], WORDS["colours"]))
    rng.shuffle(pairs)
    train_rows, exam_rows = [], []
    for number, (thing, colour) in enumerate(pairs):
        bare, coloured = f"the {thing}", f"the {colour} {thing}"
        other = rng.choice([one for one in WORDS["colours"] if one != colour])
        rows = [
            build_row(
                exercise="editing",
                seed_path=f"editing/{colour}-{thing}",
                seed_text=f"{bare}, {coloured}",
                query=query,
                reasoning="",
                answer=answer,
            )
            for query, answer in (
                (f"Remove the colour: {coloured}", bare),
                (f"Add the colour {colour}: {bare}", coloured),
                (f"Change the colour to {other}: {coloured}", f"the {other} {thing}"),
            )
        ]
        if number < EDIT_EXAM_ROWS:
            exam_rows.append(rng.choice(rows))
        else:
            train_rows += rows
    return train_rows, exam_rows
