"""Rows whose answer stands in the prompt: rag over `<source_N>` blocks, and editing. Each instance has its own seed."""

import itertools
import random
from collections.abc import Iterator

from train.data.sample.rows import build_row


PEOPLE = (
    "Tom", "Anna", "Paul", "Mary", "John", "Lucy", "Peter", "Jane", "Mark", "Rose", "Adam", "Emily",
    "Ben", "Clara", "David", "Eva", "Frank", "Grace", "Henry", "Ida", "Jack", "Laura", "Max", "Nora",
)  # fmt: skip
TOWNS = (
    "Boston", "London", "Geneva", "Milan", "Dallas", "Munich", "Lyon", "Sydney", "Denver", "Bristol",
    "Porto", "Naples", "Leeds", "Toronto", "Osaka", "Zurich", "Seville", "Ghent", "Turin", "Bergen",
)  # fmt: skip
TRADES = (
    "baker", "nurse", "pilot", "lawyer", "farmer", "singer", "painter", "teacher", "miner", "driver",
    "tailor", "barber", "doctor", "sailor", "gardener", "judge", "plumber", "waiter", "writer", "dancer",
)  # fmt: skip
FOODS = ("rice", "soup", "cheese", "bread", "fish", "pasta", "salad", "cake", "plums", "nuts", "beans", "honey")
# (how a source says it, how a question asks for it, possible values)
ATTRIBUTES = (
    ("{person} lives in {value}", "Where does {person} live?", TOWNS),
    ("{person} is a {value}", "What is the job of {person}?", TRADES),
    ("{person} eats {value}", "What does {person} eat?", FOODS),
)
# Each source tells one thing of one person. In half of the rows both tell the same kind of thing: then only the person
# decides which one answers.
SOURCES_PER_ROW = 2
RAG_TRAIN_ROWS, RAG_EXAM_ROWS = 1600, 40

THINGS = (
    "cup", "book", "lamp", "chair", "coat", "bell", "door", "shoe", "ring", "hat", "box", "pen",
    "bag", "boat", "kite", "plate", "shirt", "table", "wall", "wheel",
)  # fmt: skip
COLOURS = ("red", "blue", "green", "black", "white", "brown", "pink", "grey", "yellow", "orange")
EDIT_EXAM_ROWS = 40


def iterate_rag_rows(rng: random.Random, names: tuple[str, ...] = PEOPLE) -> Iterator[dict]:
    """Endless; the caller stops. No two rows have the same sources."""
    seen = set()
    for number in itertools.count(1):
        attributes = rng.choices(rng.sample(ATTRIBUTES, 2), k=SOURCES_PER_ROW)
        people = rng.sample(names, SOURCES_PER_ROW)
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
            reasoning=f"{sentences[asked]}, source {asked + 1}",
            answer=chosen[asked],
            constraints="\n".join(f"<source_{i}>{s}</source_{i}>" for i, s in enumerate(sentences, start=1)),
        )


def build_rag_rows(rng: random.Random) -> tuple[list[dict], list[dict]]:
    rows = list(itertools.islice(iterate_rag_rows(rng), RAG_TRAIN_ROWS + RAG_EXAM_ROWS))
    return rows[:RAG_TRAIN_ROWS], rows[RAG_TRAIN_ROWS:]


def build_editing_rows(rng: random.Random) -> tuple[list[dict], list[dict]]:
    """Add a colour to a phrase, take it away, or put another in its place: every thing with every colour. Training has
    all three edits of a pair, or none."""
    pairs = list(itertools.product(THINGS, COLOURS))
    rng.shuffle(pairs)
    train_rows, exam_rows = [], []
    for number, (thing, colour) in enumerate(pairs):
        bare, coloured = f"the {thing}", f"the {colour} {thing}"
        other = rng.choice([one for one in COLOURS if one != colour])
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
