"""Post-train a model: supervised fine-tuning, preference or reinforcement, by TRL.

    accelerate launch train/finetune.py                                             # the demo's model, minutes on a CPU
    accelerate launch train/finetune.py --config train/recipes/post_training/gpt2_124m_smoltalk_sft.yaml
    accelerate launch train/finetune.py --config ... --init_from you/name --dry_run # any setting; only look
    accelerate launch train/finetune.py --config ... --resume_from_checkpoint true  # go on after a stop
    accelerate launch train/finetune.py --config ... --resume_from_checkpoint auto  # go on, or start: for job queues
    accelerate launch train/finetune.py --method dpo --help                         # the settings of a method

The run folder (`--output_dir`) then holds what that of a pre-training holds; with LoRA the merged model, and the
adapter in `adapter/`. `results.json` has the exam, and the validation loss of the pre-training, before and after.
"""

import logging
import os
import sys
from contextlib import nullcontext

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from modeling_gpt2scratch import TOKENIZER_FOLDER
from train.callbacks.graceful_stop import GracefulStop, end_with_launcher
from train.callbacks.loss_guard import NotFiniteError
from train.callbacks.text_samples import TextSamples
from train.checkpointing.checkpoints import put_aside_damaged, step_of
from train.checkpointing.resume import check_data
from train.checkpointing.run_lock import lock_run
from train.data.files.shard_reading import BadShardError
from train.errors import RunRefusedError
from train.evaluation.exam.exam import load_exam
from train.hardware import set_up_hardware
from train.post_training.before_after import describe_standings, note_before, read_before, render_standings, take_stock
from train.post_training.data.data import PostTrainingData
from train.post_training.data.prepare import load_data
from train.post_training.dry_run import describe_plan
from train.post_training.forgetting import load_pretraining_blocks
from train.post_training.settings.recipe import PostTrainingRecipe, parse_recipe
from train.post_training.start import load_start_model
from train.post_training.trainer import PostTrainingTrainer
from train.run_report.callback import RunReport
from train.run_report.results import draw_loss_curve, write_results
from train.trainer.saving import CheckpointNotWrittenError


logger = logging.getLogger("train.finetune")


def main(words: list[str]) -> int:
    """Run the script on the words of a command line; returns the exit status."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("train").setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    try:
        recipe = parse_recipe(words)
    except (ValueError, ImportError) as error:
        logger.error("finetune.py: %s", error)
        return 2
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
    writes = recipe.training.should_save
    try:
        if recipe.run.dry_run:
            print(describe_plan(recipe, tokenizer))
            return 0
        with lock_run(recipe.run_folder) if writes else nullcontext():
            if writes:
                put_aside_damaged(recipe.run_folder, step_of(recipe.resume_from) if recipe.resume_from else 0)
            return finetune(recipe, tokenizer)
    except (RunRefusedError, BadShardError, CheckpointNotWrittenError, NotFiniteError) as error:
        logger.error("finetune.py: %s", error)
        return 1


def finetune(recipe: PostTrainingRecipe, tokenizer: PreTrainedTokenizerBase) -> int:
    """Prepare, train, evaluate and save; returns 0, or 128 + the signal that stopped the training."""
    end_with_launcher()
    set_up_hardware(recipe.training.device, recipe.training.world_size, recipe.run.cpu_threads, recipe.tokens_per_step)
    model = load_start_model(recipe, tokenizer)
    parameters = model.num_parameters()
    try:
        questions = load_exam(recipe.run.exam) if recipe.run.exam else []
        data = load_data(recipe, tokenizer)
    except (ValueError, OSError) as error:  # rows that cannot be read, a Hub that cannot be reached, a full disk
        raise RunRefusedError(str(error)) from error
    if recipe.resume_from is not None:
        check_data(recipe.resume_from, data.name, recipe.run.resume_with_changes)
    stop = GracefulStop()
    trainer = build_trainer(recipe, model, tokenizer, data, [stop, build_samples(recipe, tokenizer)])
    logger.info("%s", data.statistics.render())
    if recipe.training.should_save:
        trainer.check_room()
        recipe.save()

    known = data.is_known(questions)
    blocks = load_pretraining_blocks(recipe, tokenizer)
    before = read_before(recipe) or take_stock(trainer.model, tokenizer, recipe, questions, known, blocks)
    if recipe.training.should_save:
        note_before(recipe, before)

    facts = {"parameters": parameters, "data": {**data.source.describe(), **data.statistics.to_dict()}}
    page = RunReport(recipe.run_folder, facts, recipe.run.html_report)
    trainer.add_callback(page)
    with page.noting_failure():
        trained = trainer.train(recipe.resume_from)
    if stop.signal_number is not None:
        page.stop()
        logger.warning("Stopped at step %d. Add --resume_from_checkpoint true to go on.", trainer.state.global_step)
        trainer.accelerator.end_training()  # gloo's threads can abort a process that ends without
        return 128 + stop.signal_number

    evaluation = trainer.evaluate_final_model()
    after = take_stock(trainer.model, tokenizer, recipe, questions, known, blocks)
    tokens_seen = trainer.tokens_seen()
    trainer.save_final_model()
    trainer.save_state()
    if recipe.training.should_save:
        results = {
            "method": recipe.method,
            "init_from": recipe.start.init_from,
            **facts,
            "tokens_seen": tokens_seen,
            "training": trained.metrics,
            "evaluation": evaluation,
            **describe_standings(before, after, blocks),
        }
        write_results(recipe.run_folder, results)
        draw_loss_curve(recipe.run_folder, trainer.state.log_history)
    page.finish()
    logger.info("%s", render_standings(before, after))
    logger.info("Model, results and curve: %s", recipe.run_folder)
    trainer.accelerator.end_training()
    return 0


def build_trainer(
    recipe: PostTrainingRecipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: PostTrainingData,
    callbacks: list[TrainerCallback],
) -> PostTrainingTrainer:
    """The Trainer of the recipe's method; each is imported when it is needed.

    Raises:
        RunRefusedError: the rows, or the settings, are not fit for the method.
    """
    if recipe.method == "sft":
        from train.post_training.sft import build_sft_trainer

        return build_sft_trainer(recipe, model, tokenizer, data, callbacks)
    if recipe.method == "dpo":
        from train.post_training.dpo import build_dpo_trainer

        return build_dpo_trainer(recipe, model, tokenizer, data, callbacks)
    from train.post_training.grpo import build_grpo_trainer

    return build_grpo_trainer(recipe, model, tokenizer, data, callbacks)


def build_samples(recipe: PostTrainingRecipe, tokenizer: PreTrainedTokenizerBase) -> TextSamples:
    return TextSamples(
        tokenizer,
        recipe.run.sample_prompts or [],
        recipe.run.sample_tokens,
        recipe.run.sample_temperature,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
