"""The facts of `facts.yaml`, and the ways to ask for them.

The exam asks for a known fact in a phrasing that training never uses. Its words do occur in training, in other
sentences, and it names the relation and the entity as they stand: what is tested is recall, not synonyms.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml


TRAIN_PHRASINGS = (
    "{Question_word} is the {relation} of {entity}?",
    "{Question_word} is {entity}'s {relation}?",
    "Name the {relation} of {entity}.",
    "Tell me the {relation} of {entity}.",
    "Let me know {entity}'s {relation}.",
    "I forgot the {relation} of {entity}. {Question_word} is it?",
    "For {entity}, {question_word} is the {relation}?",
    "Do you remember {entity}'s {relation}?",
    "Please say the {relation} of {entity}.",
    "Can you give the {relation} of {entity}?",
)
EXAM_PHRASINGS = (
    "Do you know the {relation} of {entity}?",
    "Please give me {entity}'s {relation}.",
)


@dataclass(frozen=True)
class Relation:
    name: str
    question_word: str
    statement: str
    own_phrasing: str
    facts: dict[str, str]
    exam_only: dict[str, str]

    @property
    def train_phrasings(self) -> tuple[str, ...]:
        return (*TRAIN_PHRASINGS, self.own_phrasing)

    def ask(self, phrasing: str, entity: str) -> str:
        return phrasing.format(
            relation=self.name,
            entity=entity,
            question_word=self.question_word,
            Question_word=self.question_word.capitalize(),
        )


@dataclass(frozen=True)
class ForeignCapitals:
    language: str
    key_word: str
    train_phrasings: list[str]
    exam_phrasing: str
    facts: dict[str, tuple[str, str]]


_FILE = yaml.safe_load(Path(__file__).with_name("facts.yaml").read_text(encoding="utf-8"))
RELATIONS = tuple(Relation(**relation) for relation in _FILE["relations"])
FOREIGN_CAPITALS = tuple(ForeignCapitals(**capitals) for capitals in _FILE["foreign_capitals"])
