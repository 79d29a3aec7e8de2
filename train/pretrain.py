"""Pre-train GPT-2.

    accelerate launch -q train/pretrain.py                                              # the demo, minutes on a CPU
    accelerate launch -q train/pretrain.py --config train/recipes/gpt2_124m_synth.yaml  # GPT-2 124M on SYNTH
    accelerate launch -q train/pretrain.py --config ... --learning_rate 6e-4 --dry_run  # any setting; only look
    accelerate launch -q train/pretrain.py --config ... --resume_from_checkpoint true   # go on after a stop
    accelerate launch -q train/pretrain.py --config ... --resume_from_checkpoint auto   # go on, or start (job queues)

The run folder (`--output_dir`) then holds the model, which `AutoModelForCausalLM.from_pretrained` opens, its
checkpoints, `recipe.yaml`, `report.html`, `results.json`, `loss_curve.png`, `samples.jsonl` and TensorBoard's logs.
"""

import logging
import sys

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.build_model import build_model, check_model
from train.callbacks.graceful_stop import GracefulStop
from train.checkpointing.resume import check_data
from train.data.from_settings import to_preparations
from train.data.sequences.training_data import TrainingData
from train.dry_run import describe_plan
from train.evaluation.exam.exam import take_exam
from train.evaluation.exam.questions import load_exam
from train.evaluation.result_rows import exam_table
from train.hardware import set_up_hardware, set_up_model
from train.load_data import load_training_data
from train.run import build_samples, refusing_mistakes, run_entry, train_and_save
from train.settings.recipe import Recipe, parse_recipe, settings_parser
from train.trainer.pretraining import PretrainingTrainer
from train.trainer.streaming import StreamingTrainer


logger = logging.getLogger("train.pretrain")


def main(argv: list[str]) -> int:
    return run_entry("pretrain.py", argv, parse_recipe, settings_parser, check_input, describe_plan, pretrain)


def check_input(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse what shows in the model's configuration, and in the first row of each file."""
    check_model(recipe.model, tokenizer, recipe.sequence_tokens)
    to_preparations(recipe.data, tokenizer)


def pretrain(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> int:
    """Prepare, train, evaluate and save; returns the exit status."""
    set_up_hardware(recipe.training, recipe.run.cpu_threads, recipe.tokens_per_step)
    with refusing_mistakes():
        model = build_model(recipe.model, tokenizer, recipe.sequence_tokens, recipe.training.seed)
        questions = load_exam(recipe.run.exam) if recipe.run.exam else []
        data = load_training_data(recipe, tokenizer)
    logger.info("%s", data.render())
    if recipe.resume_from is not None:
        check_data(recipe.resume_from, data.name, recipe.run.resume_with_changes)
    stop = GracefulStop()
    trainer = build_trainer(recipe, model, tokenizer, data, stop)
    known = data.is_known(questions)
    facts = {
        "parameters": trainer.model.num_parameters(),
        "validation_data" if recipe.data.streaming else "data": data.describe(),
    }

    def measure() -> dict:
        return {"exam": take_exam(trainer.model, tokenizer, questions, recipe.run.exam_tokens, known)}

    def describe_change(before: dict, after: dict) -> dict:
        if (table := exam_table(after["exam"], before["exam"])) is not None:
            logger.info("%s", table.to_text())
        marks = {"exam": after["exam"], "exam_before": before["exam"]}
        if not isinstance(trainer, StreamingTrainer):
            return marks
        logger.info("The rows that were streamed:\n%s", data.render(trainer.stream_statistics))
        return {**marks, "data": data.describe(trainer.stream_statistics)}

    return train_and_save(recipe, trainer, stop, facts, measure, describe_change)


def build_trainer(
    recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: TrainingData, stop: GracefulStop
) -> PretrainingTrainer:
    tokenizer.model_max_length = model.config.n_positions
    set_up_model(model, recipe.training.device, recipe.training.torch_compile)
    kind = StreamingTrainer if recipe.data.streaming else PretrainingTrainer
    return kind(
        model=model,
        args=recipe.training,
        train_dataset=data.train,
        eval_dataset=data.validation,
        data_collator=data.collate,
        processing_class=tokenizer,
        callbacks=[stop, build_samples(recipe.run, tokenizer, as_questions=data.schema != "text")],
        sequence_tokens=recipe.sequence_tokens,
        data_name=data.name,
        **recipe.trainer_values(),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
