"""What post-training has changed: answers to an exam, and the loss on what pre-training held out."""

import dataclasses
import json
import logging
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.data.rows.synth import Row
from train.evaluation.exam.exam import ExamResult, render_exam, take_exam
from train.post_training.forgetting import ValidationSequences
from train.post_training.settings.recipe import PostTrainingRecipe
from train.run_files import BEFORE_FILE, write_whole


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standing:
    """How good a model is at one time.

    Args:
        exam: marks by exercise; empty without an exam.
        pretraining_loss: on held-out blocks of the pre-training, in nats per token; `None` where it is not measured.
    """

    exam: list[ExamResult]
    pretraining_loss: float | None


def take_stock(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: PostTrainingRecipe,
    questions: list[Row],
    known: list[bool] | None,
    blocks: ValidationSequences | None,
) -> Standing:
    """Measure a model; all processes of a distributed run must call this."""
    return Standing(
        take_exam(model, tokenizer, questions, recipe.run.exam_tokens, known),
        None if blocks is None else blocks.loss(model),
    )


def note_before(recipe: PostTrainingRecipe, before: Standing) -> None:
    write_whole(recipe.run_folder / BEFORE_FILE, json.dumps(dataclasses.asdict(before)))


def read_before(recipe: PostTrainingRecipe) -> Standing | None:
    """What the first start of a resumed run has noted."""
    file = recipe.run_folder / BEFORE_FILE
    if recipe.resume_from is None or not file.exists():
        return None
    noted = json.loads(file.read_text(encoding="utf-8"))
    return Standing([ExamResult(**result) for result in noted["exam"]], noted["pretraining_loss"])


def describe_standings(before: Standing, after: Standing, blocks: ValidationSequences | None) -> dict:
    """Both, under the names of `results.json`."""
    forgetting = None
    if blocks is not None:
        forgetting = {
            "pretraining_loss_before": before.pretraining_loss,
            "pretraining_loss": after.pretraining_loss,
            "blocks": blocks.blocks,
        }
    return {
        "exam": [dataclasses.asdict(result) for result in after.exam],
        "exam_before": [dataclasses.asdict(result) for result in before.exam],
        "forgetting": forgetting,
    }


def render_standings(before: Standing, after: Standing) -> str:
    """Marks by exercise, before and after, as a table; and the line on what is forgotten."""
    lines = [render_exam(after.exam, before.exam)] if after.exam else []
    if before.pretraining_loss is not None and after.pretraining_loss is not None:
        lines.append(
            f"validation loss of the pre-training: {before.pretraining_loss:.4f} before, {after.pretraining_loss:.4f} "
            f"after ({after.pretraining_loss - before.pretraining_loss:+.4f} nats per token)"
        )
    return "\n".join(lines)
