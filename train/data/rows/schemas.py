"""What the rows of a source hold: SYNTH's columns, a text, or a conversation; and how each becomes documents."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from train.data.files.chunk import BadShardError, Columns
from train.data.files.shard_access import opened
from train.data.files.shard_reading import check_first_row, names_in
from train.data.files.sources import Source
from train.data.files.text_documents import TEXT_COLUMN
from train.data.rows import synth
from train.data.rows.conversations import Message, UnusableRowError, row_to_messages
from train.data.rows.synth import BLANK, WRITTEN_NULLS, Row


MESSAGES_COLUMNS = Columns(
    text=("language",), other=("messages", "conversations"), forms=(("messages",), ("conversations",))
)


@dataclass(frozen=True)
class Schema(ABC):
    """How rows are read. A row may be changed in place by `repair`, which comes first."""

    name: ClassVar[str]
    columns: Columns

    @abstractmethod
    def repair(self, row: Row) -> list[str]:
        """Change what would teach a model the traces of broken tools; returns what was found."""

    @abstractmethod
    def characters(self, row: Row) -> int:
        """Of its texts."""

    @abstractmethod
    def reason_to_drop(self, row: Row) -> str | None:
        """Why a row is not trained on, in words that can be counted, or `None` if it is."""

    @abstractmethod
    def to_texts(self, row: Row) -> list[str]:
        """The training texts of a usable row; each ends with an end-of-text token."""

    @abstractmethod
    def articles(self, row: Row) -> list[str]:
        """What the row was made from, its seed first: rows that share one of them are in the same part."""

    def identity(self, row: Row) -> str:
        """What tells the row from others."""
        return "\n".join(self.to_texts(row))

    def has_reasoning(self, row: Row) -> bool:
        """Whether the row shows how its answer is found."""
        return False


@dataclass(frozen=True)
class SynthSchema(Schema):
    """Question, reasoning and answer, each grown from a seed article."""

    name: ClassVar[str] = "synth"
    columns: Columns = synth.SYNTH_COLUMNS

    repair = staticmethod(synth.repair)
    reason_to_drop = staticmethod(synth.reason_to_drop)
    articles = staticmethod(synth.articles)

    def characters(self, row: Row) -> int:
        return sum(len(row[column] or "") for column in synth.TEXT_COLUMNS)

    def to_texts(self, row: Row) -> list[str]:
        return [synth.row_to_text(row)]

    def identity(self, row: Row) -> str:
        return f"{synth.seed_article(row)}\n{row['query']}\n{row['synthetic_answer']}"

    def has_reasoning(self, row: Row) -> bool:
        return bool(synth.reasoning_of(row))


@dataclass(frozen=True)
class TextSchema(Schema):
    """A text, which is a document as it stands."""

    name: ClassVar[str] = "text"

    @property
    def text_column(self) -> str:
        return self.columns.text[0]

    @classmethod
    def of(cls, text_column: str, separator: str | None) -> "TextSchema":
        kinds = tuple({text_column: None, "language": None})  # which may be one column
        return cls(Columns(text=kinds, forms=((text_column,),), separator=separator))

    def repair(self, row: Row) -> list[str]:
        found: list[str] = []
        if row[self.text_column] is not None:
            row[self.text_column] = synth.repair_text(row[self.text_column], found)
        return found

    def characters(self, row: Row) -> int:
        return len(row[self.text_column] or "")

    def reason_to_drop(self, row: Row) -> str | None:
        text = (row[self.text_column] or "").strip(BLANK)
        return "no text" if not text else "text is a written null" if text in WRITTEN_NULLS else None

    def to_texts(self, row: Row) -> list[str]:
        return [row[self.text_column]]

    articles = to_texts


@dataclass(frozen=True)
class MessagesSchema(Schema):
    """A conversation, in the form that post-training reads; `repair` leaves a row its `messages`, clean."""

    name: ClassVar[str] = "messages"
    columns: Columns = MESSAGES_COLUMNS

    def repair(self, row: Row) -> list[str]:
        try:
            row["messages"], changes = row_to_messages(row)
        except UnusableRowError as error:
            row["messages"], row["unusable"] = [], str(error)
            return []
        return changes

    def characters(self, row: Row) -> int:
        return sum(len(message["content"]) for message in row["messages"])

    def reason_to_drop(self, row: Row) -> str | None:
        return row.get("unusable")

    def to_texts(self, row: Row) -> list[str]:
        return messages_to_texts(row["messages"])

    def articles(self, row: Row) -> list[str]:
        """The first question, so that post-training on the same rows holds out the same ones."""
        return [next(message["content"] for message in row["messages"] if message["role"] == "user")]

    def has_reasoning(self, row: Row) -> bool:
        return any("reasoning_content" in message for message in row["messages"])


SYNTH = SynthSchema()


def messages_to_texts(messages: list[Message]) -> list[str]:
    """The text up to the end of each answer, as the tokenizer's chat template writes it."""
    texts, text = [], ""
    for message in messages:
        if message["role"] == "system":
            text += f"{message['content']}\n\n"
        elif message["role"] == "user":
            text += f"Q: {message['content']}\n\n"
        else:
            reasoning = message.get("reasoning_content")
            thought = f"Reasoning:\n{reasoning}\n\n" if reasoning else ""
            texts.append(f"{text}{thought}A: {message['content']}")
            text = ""
    return texts


def find_schema(
    source: Source,
    text_column: str | None = None,
    separator: str | None = None,
    needed: Mapping[str, str] = MappingProxyType({}),
    skip_broken: bool = False,
    may_lack_text_column: bool = False,
) -> Schema:
    """The schema of a source's rows, by the beginnings of its files (of a Hub dataset, of the first).

    Args:
        text_column: the column to take as text; one called `text` where `None`, and where the columns are not SYNTH's.
        separator: of the documents in a text file.
        needed: columns that each file must have, each with the setting that uses it.
        skip_broken: pass over files that cannot be read.
        may_lack_text_column: take files without it by their other columns, as those of a set for validation.

    Raises:
        ValueError: the files hold no rows of any schema, or of more than one, lack a column that is needed, or have a
            first row that is none.
    """
    shards = source.shards if source.revision is None else source.shards[:1]
    found: dict[str, tuple[Schema, str]] = {}
    for shard in shards:
        with opened(shard) as file:
            try:
                names = names_in(file, str(shard))
            except BadShardError:
                if not skip_broken:
                    raise
                continue
            if not names:  # an empty file
                continue
            named = None if may_lack_text_column and text_column not in names else text_column
            schema, has = _schema_of(names, named, separator), f"it has {', '.join(names)}"
            if schema is None:
                raise BadShardError(
                    f"{shard} has no column {text_column or TEXT_COLUMN}; {has}. Name the one that holds the text by "
                    "--text_column; without it, rows have SYNTH's columns (query, synthetic_answer), or messages."
                )
            if missing := [column for column in needed if column not in names]:
                raise BadShardError(
                    f"{shard} has no column {missing[0]}; {has}. Take back --{needed[missing[0]]}, which uses it: "
                    "without a value, it is unset."
                )
            if not skip_broken:
                check_first_row(file, str(shard), schema.columns)
        found.setdefault(schema.name, (schema, str(shard)))
    if len(found) > 1:
        (one, first), (other, second) = list(found.values())[:2]
        raise ValueError(
            f"{first} has rows of {one.name}, {second} of {other.name}: keep one kind, or name a --text_column that "
            "both have."
        )
    schema = next((schema for schema, _ in found.values()), SYNTH)
    forms = tuple((*form, *needed) for form in schema.columns.forms)
    return replace(schema, columns=replace(schema.columns, forms=forms)) if needed else schema


def _schema_of(names: list[str], text_column: str | None, separator: str | None) -> Schema | None:
    if text_column is not None:
        return TextSchema.of(text_column, separator) if text_column in names else None
    if {"query", "synthetic_answer"} <= set(names):
        return SYNTH
    if TEXT_COLUMN in names:
        return TextSchema.of(TEXT_COLUMN, separator)
    return MessagesSchema() if {"messages", "conversations"} & set(names) else None
