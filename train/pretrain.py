"""Pre-train GPT-2.

    accelerate launch train/pretrain.py                                               # the demo, minutes on a CPU
    accelerate launch train/pretrain.py --config train/recipes/gpt2_124m_synth.yaml   # GPT-2 124M on SYNTH
    accelerate launch train/pretrain.py --config ... --learning_rate 6e-4 --dry_run   # any setting; only look
    accelerate launch train/pretrain.py --config ... --resume_from_checkpoint true    # go on after a stop
    accelerate launch train/pretrain.py --config ... --resume_from_checkpoint auto    # go on, or start: for job queues

The run folder (`--output_dir`) then holds the model, which `AutoModelForCausalLM.from_pretrained` opens, its
checkpoints, `recipe.yaml`, `report.html`, `results.json`, `loss_curve.png`, `samples.jsonl` and TensorBoard's logs.
"""

import dataclasses
import json
import logging
import os
import sys
from contextlib import nullcontext

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from modeling_gpt2scratch import TOKENIZER_FOLDER
from train.build_model import build_config, build_model
from train.callbacks.graceful_stop import GracefulStop, end_with_launcher
from train.callbacks.loss_guard import NotFiniteError
from train.callbacks.text_samples import TextSamples
from train.checkpointing.checkpoints import put_aside_damaged, step_of
from train.checkpointing.resume import check_data
from train.checkpointing.run_lock import lock_run
from train.data.files.shard_reading import BadShardError
from train.data.sequences.training_data import TrainingData
from train.dry_run import describe_plan
from train.errors import RunRefusedError
from train.evaluation.exam.exam import ExamResult, load_exam, render_exam, take_exam
from train.hardware import set_up_hardware, set_up_model
from train.load_data import load_training_data
from train.run_files import BEFORE_FILE, write_whole
from train.run_report.callback import build_report
from train.run_report.results import draw_loss_curve, write_results
from train.settings.recipe import Recipe, RecipeParser
from train.trainer.pretraining import PretrainingTrainer
from train.trainer.saving import CheckpointNotWrittenError
from train.trainer.streaming import StreamingTrainer


logger = logging.getLogger("train.pretrain")


def main(words: list[str]) -> int:
    """Run the script on the words of a command line; returns the exit status."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("train").setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    try:
        recipe = RecipeParser().parse_recipe(words)
    except ValueError as error:
        logger.error("pretrain.py: %s", error)
        return 2
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
    if recipe.run.dry_run:
        print(describe_plan(recipe, tokenizer))
        return 0
    writes = recipe.training.should_save
    try:
        with lock_run(recipe.run_folder) if writes else nullcontext():
            if writes:
                put_aside_damaged(recipe.run_folder, step_of(recipe.resume_from) if recipe.resume_from else 0)
            return pretrain(recipe, tokenizer)
    except (RunRefusedError, BadShardError, CheckpointNotWrittenError, NotFiniteError) as error:
        logger.error("pretrain.py: %s", error)
        return 1


def pretrain(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> int:
    """Prepare, train, evaluate and save; returns 0, or 128 + the signal that stopped the training."""
    end_with_launcher()
    set_up_hardware(recipe.training.device, recipe.training.world_size, recipe.run.cpu_threads, recipe.tokens_per_step)
    try:
        build_config(recipe, tokenizer)  # sizes that no model can have show before the data is prepared
        questions = load_exam(recipe.run.exam) if recipe.run.exam else []
        data = load_training_data(recipe, tokenizer)
    except (ValueError, OSError) as error:  # rows that cannot be read, a Hub that cannot be reached, a full disk
        raise RunRefusedError(str(error)) from error
    logger.info("%s", data.statistics.render())
    if recipe.resume_from is not None:
        check_data(recipe.resume_from, data.name, recipe.run.resume_with_changes)
    stop = GracefulStop()
    trainer = build_trainer(recipe, tokenizer, data, stop)
    if recipe.training.should_save:
        trainer.check_room()
        recipe.save()

    known = data.is_known(questions)
    exam_before = ask_before_training(trainer, recipe, questions, known)

    page = build_report(recipe, data, trainer.model.num_parameters())
    trainer.add_callback(page)
    with page.noting_failure():
        trained = trainer.train(recipe.resume_from)
    if stop.signal_number is not None:
        page.stop()
        logger.warning("Stopped at step %d. Add --resume_from_checkpoint true to go on.", trainer.state.global_step)
        trainer.accelerator.end_training()  # gloo's threads can abort a process that ends without
        return 128 + stop.signal_number

    statistics = data.statistics
    if isinstance(trainer, StreamingTrainer):
        statistics = trainer.stream_statistics
        logger.info("The rows that were streamed:\n%s", statistics.render())
    evaluation = trainer.evaluate_final_model()
    exam = take_exam(trainer.model, tokenizer, questions, recipe.run.exam_tokens, known)
    trainer.save_final_model()
    trainer.save_state()
    if recipe.training.should_save:
        results = {
            "parameters": trainer.model.num_parameters(),
            "tokens_seen": trainer.state.global_step * recipe.tokens_per_step,
            "training": trained.metrics,
            "evaluation": evaluation,
            "exam": [dataclasses.asdict(result) for result in exam],
            "exam_before": [dataclasses.asdict(result) for result in exam_before],
            "data": {**data.source.describe(), **statistics.to_dict()},
            **({"validation_data": data.statistics.to_dict()} if recipe.data.streaming else {}),
        }
        write_results(recipe.run_folder, results)
        draw_loss_curve(recipe.run_folder, trainer.state.log_history)
    page.finish()
    logger.info("validation loss %.4f, perplexity %.2f", evaluation["eval_loss"], evaluation["eval_perplexity"])
    logger.info("%s", render_exam(exam, exam_before))
    logger.info("Model, results and curve: %s", recipe.run_folder)
    trainer.accelerator.end_training()
    return 0


def build_trainer(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, data: TrainingData, stop: GracefulStop
) -> PretrainingTrainer:
    """The Trainer for a recipe."""
    samples = TextSamples(
        tokenizer, recipe.run.sample_prompts or [], recipe.run.sample_tokens, recipe.run.sample_temperature
    )
    model = build_model(recipe, tokenizer)
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
        callbacks=[stop, samples],
        sequence_tokens=recipe.sequence_tokens,
        data_name=data.name,
        **recipe.trainer_values(),
    )


def ask_before_training(
    trainer: PretrainingTrainer, recipe: Recipe, questions: list, known: list[bool] | None
) -> list[ExamResult]:
    """The exam's marks before the first step; a resumed run reads what its first start noted."""
    noted = recipe.run_folder / BEFORE_FILE
    if recipe.resume_from is not None and noted.exists():
        return [ExamResult(**result) for result in json.loads(noted.read_text(encoding="utf-8"))["exam"]]
    results = take_exam(trainer.model, trainer.processing_class, questions, recipe.run.exam_tokens, known)
    if recipe.training.should_save:
        write_whole(noted, json.dumps({"exam": [dataclasses.asdict(result) for result in results]}))
    return results


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
