"""Post-train a model: supervised fine-tuning, preference or reinforcement, by TRL.

    accelerate launch -q train/finetune.py                                              # the demo's model, in minutes
    accelerate launch -q train/finetune.py --config train/recipes/post_training/gpt2_124m_smoltalk_sft.yaml
    accelerate launch -q train/finetune.py --config ... --init_from you/name --dry_run  # any setting; only look
    accelerate launch -q train/finetune.py --config ... --resume_from_checkpoint true   # go on after a stop
    accelerate launch -q train/finetune.py --config ... --resume_from_checkpoint auto   # go on, or start (job queues)
    accelerate launch -q train/finetune.py --method dpo --help                          # the settings of a method

The run folder (`--output_dir`) then holds what that of a pre-training holds; with LoRA the merged model, and the
adapter in `adapter/`. `results.json` has the exam, and the validation loss of the pre-training, before and after.
"""

import logging
import sys

from transformers import PreTrainedTokenizerBase

from train.callbacks.graceful_stop import GracefulStop
from train.checkpointing.resume import check_data
from train.evaluation.exam.exam import take_exam
from train.evaluation.exam.questions import load_exam
from train.hardware import set_up_hardware
from train.post_training.before_after import describe_change, render_change
from train.post_training.build_trainer import build_trainer
from train.post_training.data.from_settings import to_preparation
from train.post_training.data.prepare import load_data
from train.post_training.dry_run import describe_plan
from train.post_training.forgetting import load_pretraining_sequences
from train.post_training.settings.recipe import PostTrainingRecipe, parse_recipe, settings_parser
from train.post_training.start import check_start_model, load_start_model
from train.run import build_samples, refusing_mistakes, run_entry, train_and_save


logger = logging.getLogger("train.finetune")


def main(argv: list[str]) -> int:
    return run_entry("finetune.py", argv, parse_recipe, settings_parser, check_input, describe_plan, finetune)


def check_input(recipe: PostTrainingRecipe, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse what shows in the model's configuration, and in the first row of each file."""
    check_start_model(recipe, tokenizer)
    to_preparation(recipe, tokenizer, recipe.sequence_tokens)


def finetune(recipe: PostTrainingRecipe, tokenizer: PreTrainedTokenizerBase) -> int:
    """Prepare, train, evaluate and save; returns the exit status."""
    set_up_hardware(recipe.training, recipe.run.cpu_threads, recipe.tokens_per_step)
    with refusing_mistakes():
        model = load_start_model(recipe, tokenizer)
        parameters = model.num_parameters()
        questions = load_exam(recipe.run.exam) if recipe.run.exam else []
        rows = to_preparation(recipe, tokenizer, model.config.max_position_embeddings)
        data = load_data(rows, recipe.rows.max_eval_samples, writes=recipe.training.local_process_index == 0)
    if recipe.resume_from is not None:
        check_data(recipe.resume_from, data.name, recipe.run.resume_with_changes)
    stop = GracefulStop()
    trainer = build_trainer(recipe, model, tokenizer, data, [stop, build_samples(recipe.run, tokenizer)])
    logger.info("%s", data.statistics.render())
    known = data.is_known(questions)
    sequences = load_pretraining_sequences(
        recipe.start.init_from, recipe.run.forgetting_sequences, tokenizer, recipe.training.local_process_index == 0
    )
    facts = {
        "method": recipe.method,
        "init_from": recipe.start.init_from,
        "parameters": parameters,
        "data": {**rows.describe(), **data.statistics.to_dict()},
    }

    def measure() -> dict:
        return {
            "exam": take_exam(trainer.model, tokenizer, questions, recipe.run.exam_tokens, known),
            "pretraining_loss": sequences and sequences.mean_loss(trainer.model),  # nats per token
        }

    def describe(before: dict, after: dict) -> dict:
        logger.info("%s", render_change(before, after))
        return describe_change(before, after, sequences)

    return train_and_save(recipe, trainer, stop, facts, measure, describe)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
