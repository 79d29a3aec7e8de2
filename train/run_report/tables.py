"""The tables of the page: exam and evaluation, samples, statistics of the rows, recipe, and environment."""

import dataclasses
from collections import Counter
from pathlib import Path

from transformers import TrainingArguments

from train.data.rows.synth import split_answer
from train.evaluation.result_rows import NOT_RECORDED, Table, describe_evaluation, exam_table
from train.run_files import grid_of_samples
from train.run_report.environment import HIDDEN, is_secret, shorten_path
from train.run_report.run_record import RunRecord, name_to_show
from train.settings.recipe import OWN_GROUPS, TRAINING_DEFAULTS


SPLITS = {"train": "training", "validation": "validation"}


def exam_marks(run: RunRecord) -> Table | None:
    """The marks by exercise, before and after training, as far as there are any."""
    table = exam_table(run.results.get("exam") or [], run.results.get("exam_before") or run.exam_before)
    if table is not None:
        table.notes.append(
            "Chance: always giving the commonest answer. Well formed: reasoning, answer and end. Known: training rows "
            "say it in other words."
        )
    return table


def evaluation_notes(run: RunRecord) -> list[str]:
    """Sentences on the evaluation as a whole; none where there is no evaluation."""
    if not run.evaluation:
        return []
    notes = [*describe_evaluation(run.evaluation).splitlines(), "All intervals have 95% confidence."]
    if not run.evaluation_fits:
        notes.append("It is of other weights than those in the folder now: evaluate again.")
    return notes


def samples_grid(run: RunRecord) -> tuple[list[str], list[tuple[int, list[tuple[str, str]]]]]:
    """The questions; and for each step, the newest first, the text that answers each of them, as the part before the
    answer and the answer."""
    questions, texts = grid_of_samples(run.samples)
    return questions, [(step, [*map(split_answer, texts[step])]) for step in sorted(texts, reverse=True)]


def recipe_settings(run: RunRecord) -> dict[str, list[tuple[str, str, str | None]]]:
    """The recipe's settings by group, in the order of its file: name, value, and the default where it is another."""
    defaults = {kind._argument_group_name: _defaults(kind) for kind in OWN_GROUPS}
    defaults["training"] = {**_defaults(TrainingArguments), **TRAINING_DEFAULTS}
    settings: dict[str, list[tuple[str, str, str | None]]] = {}
    for name, value in run.recipe.items():
        group = next((group for group, known in defaults.items() if name in known), "other")
        default = defaults.get(group, {}).get(name)
        differs = value != default and not (isinstance(value, bool) and default == ("yes" if value else "no"))
        shown = HIDDEN if is_secret(name) else show_setting(value)
        settings.setdefault(group, []).append((name, shown, show_setting(default) if differs else None))
    return settings


def _defaults(kind: type) -> dict[str, object]:
    return {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(kind)
    }


def show_setting(value: object) -> str:
    """A setting as it is written in a recipe; a float without digits after the point as the whole number it is."""
    if isinstance(value, list):
        return ", ".join(map(show_setting, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "unset" if value is None else shorten_path(str(value))


def environment_rows(run: RunRecord) -> list[tuple[str, str]]:
    """Names and values, of the newest start; of a run without a record of it, what its results say."""
    known = {**run.record, **run.results}
    starts = run.record.get("starts")
    if starts:
        environment = {name: value for name, value in starts[-1]["environment"].items() if value}
    else:
        environment = {"command": None, "git commit": known.get("git_commit"), "hardware": known.get("hardware")}
        environment |= known.get("versions", {})
    kwh = run.emissions.get("energy_consumed")
    energy = {} if kwh is None else {"energy, by codecarbon": f"{kwh:.3g} kWh"}
    rows = {"parameters": known.get("parameters"), **energy, **environment}
    return [(name, show(value)) for name, value in rows.items()]


def show(value: object) -> str:
    """A value, with thousands set apart, or that it is missing; of a value with parts, those that are known."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {show(part)}" for name, part in value.items() if part is not None)
    if value is None or value == "":
        return NOT_RECORDED
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def data_tables(results: dict) -> list[Table]:
    """Of the rows that are trained on, and of a stream's validation rows, which have statistics of their own."""
    tables = []
    for key, title in {"data": "Rows", "validation_data": "Validation rows of the stream"}.items():
        if not (statistics := results.get(key)):
            continue
        parts = statistics.get("datasets") or [statistics]
        if len(parts) > 1:
            tables.append(_mixture_table(parts, f"{title}: the mixture", statistics.get("validation_set")))
        for statistics in parts:
            name = f" of {_name(statistics)}" if len(parts) > 1 else ""
            kinds = [kind for kind in ("exercise", "language") if statistics.get(f"rows_by_{kind}")]
            tables += [_rows_table(statistics, f"{title}{name}"), *(_kind_table(statistics, kind) for kind in kinds)]
            tables += [_sequences_table(statistics)] if statistics.get("sequences", statistics.get("blocks")) else []
            tables.append(_source_table(statistics))
    return tables


def _mixture_table(parts: list[dict], title: str, apart: dict | None) -> Table:
    rows = [
        [
            _name(part),
            f"{part['share']:.2%}",
            show(part.get("passes_in_epoch") and f"{part['passes_in_epoch']:.3g}"),
            *(show(part.get(name, {}).get("train")) for name in ("sequences", "tokens")),
            show(part.get("validation_sequences")),
        ]
        for part in parts
    ]
    header = ["dataset", "share", "passes in an epoch", "training sequences", "their tokens", "validation sequences"]
    return Table(header, rows, title, bars=[1], notes=[f"Validation rows: {_name(apart)}."] if apart else [])


def _rows_table(statistics: dict, title: str) -> Table:
    rows = [["read", show(statistics.get("rows_read")), "", show(statistics.get("characters_read"))]]
    for reason, count in Counter(statistics.get("dropped_rows", {})).most_common():
        characters = statistics.get("dropped_characters", {}).get(reason)
        rows.append([f"dropped: {reason}", show(count), "", show(characters)])
    for split, count in statistics.get("kept_rows", {}).items():
        tokens, characters = (statistics.get(name, {}).get(split) for name in ("tokens", "kept_characters"))
        rows.append([f"kept: {SPLITS.get(split, split)}", show(count), show(tokens), show(characters)])
    for found, count in Counter(statistics.get("repaired_rows", {})).most_common():
        rows.append([f"of these repaired: {found}", show(count), "", ""])
    if statistics.get("repeated_rows"):
        rows.append(["used again, by weight", show(statistics["repeated_rows"]), "", ""])
    rows += [[f"skipped: {Path(shard).name}", "", "", ""] for shard in statistics.get("skipped_shards", [])]
    return Table(["", "rows", "tokens", "characters"], rows, title)


def _kind_table(statistics: dict, kind: str) -> Table:
    kept, read, tokens = (statistics.get(f"{name}_by_{kind}", {}) for name in ("rows", "rows_read", "tokens"))
    all_tokens = sum(tokens.values())
    rows = [
        [
            name,
            *(show(count) for count in (rows_read, kept.get(name, 0), tokens.get(name, 0))),
            f"{tokens.get(name, 0) / all_tokens:.1%}" if all_tokens else NOT_RECORDED,
        ]
        for name, rows_read in Counter({**kept, **read}).most_common()
    ]
    return Table([kind, "rows read", "kept", "tokens", "of all tokens"], rows, bars=[4])


def _sequences_table(statistics: dict) -> Table:
    statistics = {"sequences": statistics.get("blocks", {}), **statistics}  # "blocks" in older run folders
    names = ("sequences", "cut_documents", "padding_tokens", "left_over_tokens", "articles")
    rows = [
        [name, *(show(statistics.get(key, {}).get(split, 0)) for key in names)]
        for split, name in SPLITS.items()
        if statistics.get("tokens", {}).get(split)  # a stream has one part only
    ]
    return Table(["", "sequences", "documents cut", "padding tokens", "tokens left over", "articles"], rows)


def _place_rows(title: str, source: dict) -> list[list[str]]:
    return [[title, show(_name(source))], ["its commit", show(source.get("dataset_revision"))]]


def _source_table(statistics: dict) -> Table:
    shared = statistics.get("shared_articles")
    apart = statistics.get("validation_set")
    rows = [
        *_place_rows("dataset", statistics),
        *(_place_rows("validation rows of", apart) if isinstance(apart, dict) else []),
        ["shared articles", "not counted, as one part was read" if shared is None else f"{shared:,} of both parts"],
        *([f"SHA-256 {split}", digest] for split, digest in statistics.get("sha256", {}).items()),
    ]
    return Table(["source", ""], rows)


def _name(statistics: dict) -> str:
    name, config = name_to_show(statistics) or "", statistics.get("dataset_config")
    return f"{name} ({config})" if config else name
