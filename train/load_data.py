"""The data that a recipe asks for: prepared ahead of the training, or streamed."""

from functools import partial

from transformers import PreTrainedTokenizerBase

from train.checkpointing.checkpoints import step_of
from train.data.from_settings import to_preparations
from train.data.sequences.streamed_sequences import MixedStreams, StreamedSequences
from train.data.sequences.training_data import TrainingData, load_prepared_data, load_streamed_data
from train.settings.recipe import Recipe
from train.trainer.streaming import read_places


def load_training_data(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> TrainingData:
    """Prepare or find the data; a stream goes on where the checkpoint left it. A `ValueError` if the source cannot be
    read, too few rows are left, or the checkpoint has another number of streams."""
    data, training = recipe.data, recipe.training
    preparations = to_preparations(data, tokenizer)
    writes = training.local_process_index == 0
    if not data.streaming:
        return load_prepared_data(
            preparations,
            data.dataset_weights,
            sequences_per_step=recipe.sequences_per_step,
            max_eval_sequences=data.max_eval_sequences,
            processes=data.dataset_num_proc,
            writes=writes,
        )
    streams = training.world_size * max(1, training.dataloader_num_workers)
    resumed = recipe.resume_from
    read = partial(
        StreamedSequences,
        shuffle_buffer=data.shuffle_buffer,
        seed=training.data_seed if training.data_seed is not None else training.seed,
        streams=streams,
        process=training.process_index,
    )
    mixed = MixedStreams(
        [read(preparation) for preparation in preparations],
        weights=data.dataset_weights or [1.0],
        processes=training.world_size,
        batches_before=step_of(resumed) * training.gradient_accumulation_steps if resumed else 0,
        places=read_places(resumed, streams) if resumed else {},
    )
    assert data.max_eval_sequences is not None
    return load_streamed_data(mixed, data.max_eval_sequences, data.dataset_num_proc, writes)
