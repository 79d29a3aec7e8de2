"""The card's metadata, which the Hub's search and leaderboards read."""

from functools import partial
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from train.evaluation.result_rows import NOT_RECORDED
from train.run_report.run_record import RunRecord


result = partial(EvalResult, task_type="text-generation")


def build_metadata(record: RunRecord, repo_id: str, with_results: bool = True) -> ModelCardData:
    """Licence, language, data, emissions, and the figures of a run."""
    results = [*_validation_results(record), *_exam_results(record), *_task_results(record)] if with_results else []
    co2_kg = record.emissions.get("emissions")
    emissions = co2_kg and {
        "emissions": 1000 * co2_kg,  # in grams
        "source": "codecarbon",
        "training_type": "fine-tuning" if record.method else "pre-training",
    }
    return ModelCardData(
        model_name=repo_id.rpartition("/")[2],
        library_name="transformers",
        pipeline_tag="text-generation",
        license="mit",
        language=record.languages or None,
        datasets=record.hub_datasets or None,
        tags=["gpt2", "gpt2scratch", record.method or "pretraining"],
        metrics=sorted({result.metric_type for result in results}) or None,
        eval_results=results or None,
        co2_eq_emissions=emissions,
    )


def _validation_results(record: RunRecord) -> list[EvalResult]:
    """Loss and perplexity on validation rows of the training data, and bits per byte where those were evaluated."""
    evaluated = record.evaluation.get("validation", {}).get("overall", {})
    figures = [
        ("loss", "validation loss, nats per token", record.figure("evaluation", "eval_loss")),
        ("perplexity", "perplexity", record.figure("evaluation", "eval_perplexity")),
        ("bits_per_byte", "bits per byte, documents one by one", evaluated.get("bits_per_byte")),
    ]
    source = record.validation_source
    dataset = source["name"] or NOT_RECORDED
    return [
        result(
            dataset_type=dataset,
            dataset_name=f"{dataset}, validation rows",
            dataset_split=source["split"],
            dataset_revision=source["revision"],
            metric_type=metric,
            metric_name=name,
            metric_value=value,
        )
        for metric, name, value in figures
        if value is not None
    ]


def _exam_results(record: RunRecord) -> list[EvalResult]:
    exam = Path(record.recipe.get("exam") or "exam").name
    evaluated = record.evaluation.get("exam", {}).get("by_exercise")
    return [
        result(
            dataset_type=exam,
            dataset_name=f"exam ({exam}): {mark['exercise']}",
            dataset_config=mark["exercise"],
            metric_type="exact_match",
            metric_name="exact match",
            metric_value=round(mark["correct"] / mark["asked"], 6),
        )
        for mark in evaluated or record.results.get("exam") or []
    ]


def _task_results(record: RunRecord) -> list[EvalResult]:
    return [
        result(
            dataset_type=figure["task"],
            dataset_name=figure["task"],
            dataset_args=None if figure["shots"] is None else {"num_few_shot": figure["shots"]},
            metric_type=figure["metric"],
            metric_name=f"{figure['metric']} (lm-evaluation-harness)",
            metric_value=round(figure["value"], 6),
        )
        for figure in record.evaluation.get("tasks", [])
    ]
