"""The model card: a template, filled with what the run's files say; what they do not say shows as missing."""

import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hub_card import card_tables
from hub_card.run_record import RunRecord, is_local_path


CARD_FILE = "README.md"
CARD_TEMPLATE = "card_template.md"
STOCK_CARD_TEMPLATE = "stock_card_template.md"
TAGS = ["gpt2", "gpt2scratch", "pretraining"]
PROJECT_SAMPLE = "sample"  # the rows that come with the project, which are CC0


def render_card(record: RunRecord, repo_id: str, with_stock: bool = True) -> str:
    """The card of the branch `main`: metadata, then Markdown.

    Args:
        with_stock: whether a branch `gpt2` holds the model as a stock GPT-2.
    """
    results, data = record.results, record.data
    return _fill(
        CARD_TEMPLATE,
        card_data=build_metadata(record, repo_id).to_yaml(),
        repo_id=repo_id,
        record=record,
        with_stock=with_stock,
        recipe_rows=card_tables.table(("setting", "value"), _recipe_rows(record.recipe)),
        ledger=card_tables.ledger_table(data),
        exam=card_tables.exam_table(record),
        exam_tokens=record.recipe.get("exam_tokens"),
        samples=card_tables.samples_text(record.samples),
        hardware=card_tables.hardware_text(results),
        data_licence=_describe_data_licence(record),
        versions=", ".join(f"{name} {version}" for name, version in results.get("versions", {}).items()),
        reproduce=_reproduce_command(record),
    )


def render_stock_card(record: RunRecord, repo_id: str) -> str:
    """The card of the branch `gpt2`."""
    metadata = build_metadata(record, repo_id)
    metadata.eval_results = None
    return _fill(STOCK_CARD_TEMPLATE, card_data=metadata.to_yaml(), repo_id=repo_id)


def build_metadata(record: RunRecord, repo_id: str) -> ModelCardData:
    """What the Hub's search and leaderboards read of a card."""
    results = [*_held_out_results(record), *_exam_results(record)]
    return ModelCardData(
        model_name=repo_id.rpartition("/")[2],
        library_name="transformers",
        pipeline_tag="text-generation",
        license="mit",
        language=record.languages or None,
        datasets=[record.hub_dataset] if record.hub_dataset else None,
        tags=TAGS,
        metrics=sorted({result.metric_type for result in results}) or None,
        eval_results=results or None,
    )


def _held_out_results(record: RunRecord) -> list[EvalResult]:
    """Loss and perplexity on held-out rows of the training data."""
    figures = [("loss", "held-out loss, nats a token", "eval_loss"), ("perplexity", "perplexity", "eval_perplexity")]
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=record.dataset_name or card_tables.NOT_RECORDED,
            dataset_name=f"{record.dataset_name or card_tables.NOT_RECORDED}, held-out rows",
            dataset_split="validation",
            dataset_revision=record.data.get("dataset_revision"),
            metric_type=metric,
            metric_name=name,
            metric_value=value,
        )
        for metric, name, key in figures
        if (value := record.figure("evaluation", key)) is not None
    ]


def _exam_results(record: RunRecord) -> list[EvalResult]:
    """Exact match, by exercise."""
    exam = Path(record.recipe.get("exam") or "exam").name
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=exam,
            dataset_name=f"exam ({exam}): {mark['exercise']}",
            dataset_config=mark["exercise"],
            metric_type="exact_match",
            metric_name="exact match",
            metric_value=round(mark["correct"] / mark["asked"], 6),
        )
        for mark in record.results.get("exam") or []
    ]


def _recipe_rows(recipe: dict) -> list[tuple[str, str]]:
    """Settings and values; of an absolute path, which says something of a machine, the last part only."""
    rows = []
    for name, value in recipe.items():
        texts = [str(item) for item in (value if isinstance(value, list) else [value])]
        shown = ", ".join(Path(text).name if is_local_path(text) else text for text in texts)
        rows.append((f"`{name}`", card_tables.escape(shown)))
    return rows


def _describe_data_licence(record: RunRecord) -> str:
    if licence := record.data.get("license"):
        return card_tables.show(licence)
    if record.hub_dataset:
        return f"as stated at https://huggingface.co/datasets/{record.hub_dataset}"
    return "CC0" if record.dataset_name == PROJECT_SAMPLE else card_tables.NOT_RECORDED


def _reproduce_command(record: RunRecord) -> str:
    """The command that trains it again from the recipe in the repository."""
    # Names that a shell would split or expand are left to the reader to put right.
    name = re.sub(r"[^\w.-]", "_", record.name)
    words = ["accelerate launch train/pretrain.py --config recipe.yaml", f"--output_dir runs/{name}"]
    if record.hub_dataset:
        words.append(f"--dataset_revision {record.data['dataset_revision']}")
    elif record.dataset_name not in (None, PROJECT_SAMPLE):
        words.append("--dataset YOUR_COPY_OF_THE_ROWS")
    return " ".join(words)


def _fill(template: str, **values: object) -> str:
    """A template with its values; a name that none was given for is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"show": card_tables.show, "seconds": card_tables.show_seconds}
    return environment.get_template(template).render(values)
