"""The model to train: fresh, or with earlier weights."""

import math
from pathlib import Path

from torch import float32
from transformers import AutoConfig, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM, from_hf_gpt2
from modeling_gpt2scratch.loading import count_ids, load_whole_model, refuse_adapter
from train.run_files import CONFIG_FILE
from train.settings.arguments import LARGEST_MULTIPLE, ModelArguments
from train.tokenizer.opening import check_same_ids


DROPOUTS = ("embd_pdrop", "attn_pdrop", "resid_pdrop")  # a matter of the training, not of the weights
# Where the shipped recipes look for the demo, and what makes it.
DEMOS = {"runs/demo": "make pretrain", "runs/demo_sft": "make finetune"}
MODEL_TYPES = (GPT2ScratchConfig.model_type, "gpt2")  # that a run can start from
# Settings of the model's group that are no sizes of it.
NO_SIZES = ("init_from", "attn_implementation", "tokenizer", "pad_vocab_to_multiple_of")


def build_config(model: ModelArguments, tokenizer: PreTrainedTokenizerBase) -> GPT2ScratchConfig:
    """The configuration of a fresh model; a `ValueError` for sizes that no model can have."""
    fields = {name: value for name, value in vars(model).items() if name not in NO_SIZES}
    multiple = model.pad_vocab_to_multiple_of
    return GPT2ScratchConfig(
        vocab_size=math.ceil(count_ids(tokenizer) / multiple) * multiple,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **fields,
    )


def build_model(
    model: ModelArguments, tokenizer: PreTrainedTokenizerBase, sequence_length: int, seed: int
) -> PreTrainedModel:
    """A model with initial weights drawn from the seed, or with those of `init_from`; a `ValueError` for sizes that no
    model can have, or a sequence longer than the context of `init_from`."""
    check_model(model, tokenizer, sequence_length)
    set_seed(seed)  # every process draws the same weights
    if model.init_from is None:
        config = build_config(model, tokenizer)
        built = GPT2ScratchForCausalLM._from_config(config, attn_implementation=model.attn_implementation)
    else:
        dropout = {name: vars(model)[name] for name in DROPOUTS}
        built = load_model(model.init_from, model.attn_implementation, dropout)
        if model.pad_vocab_to_multiple_of > 1:
            built.resize_token_embeddings(pad_to_multiple_of=model.pad_vocab_to_multiple_of)
    suppress_padding(built, count_ids(tokenizer))
    return built.to(float32)  # the master weights; bf16 recipes train through autocast


def check_model(model: ModelArguments, tokenizer: PreTrainedTokenizerBase, sequence_length: int) -> None:
    """Refuse what `build_model` would, as far as it shows without weights."""
    if model.init_from is None:
        build_config(model, tokenizer)
    else:
        check_start(model.init_from, tokenizer, "--sequence_length", sequence_length)


def suppress_padding(model: PreTrainedModel, ids: int) -> None:
    """Let `generate` never write the ids that a tokenizer of so many does not have: rows that only fill the embedding
    matrix up. The training's loss sees them, as nanoGPT's does, and learns within steps that they never come."""
    padding = list(range(ids, model.config.vocab_size))
    model.generation_config.suppress_tokens = padding or None


def check_start(source: str, tokenizer: PreTrainedTokenizerBase, length_name: str, tokens: int) -> None:
    """Refuse earlier weights by what their folder, configuration and tokenizer say; weights are not read. A
    `ValueError` or `OSError` where there is no such model, it reads other tokens, or has no positions for so many."""
    try:
        _check_source(source)
        try:
            config = AutoConfig.from_pretrained(source)
        except (OSError, ValueError):  # refused where it is loaded
            return
        if config.model_type not in MODEL_TYPES:  # likewise
            return
        _check_tokenizer(source, config.vocab_size, tokenizer)
    except (OSError, ValueError) as error:
        raise type(error)(f"--init_from {error}") from error
    if tokens > config.n_positions:
        raise ValueError(
            f"{length_name} {tokens} is longer than the context of {source}, {config.n_positions}: lower it."
        )


def load_model(source: str, attn_implementation: str, dropout: dict[str, float]) -> GPT2ScratchForCausalLM:
    """Earlier weights that `check_start` lets pass: those of a run, a checkpoint, a Hub id, or Hugging Face's GPT-2;
    dropout rates by name. A `ValueError` or `OSError` where they are of another type, or not whole."""
    try:
        model = load_whole_model(source, MODEL_TYPES, attn_implementation=attn_implementation, **dropout)
    except (OSError, ValueError) as error:
        raise type(error)(f"--init_from {error}") from error
    if isinstance(model, GPT2LMHeadModel):
        model = from_hf_gpt2(model)
        model.set_attn_implementation(attn_implementation)
    return model


def _check_source(source: str) -> None:
    """Refuse a local path without a model; what is no such path is a Hub id."""
    folder = Path(source).expanduser()
    refuse_adapter(folder)
    if (folder / CONFIG_FILE).is_file():
        return
    if source in DEMOS:
        raise ValueError(f"{source} holds no finished model yet: run `{DEMOS[source]}` first.")
    if folder.exists():
        raise ValueError(
            f"{source} holds no model: a run leaves it there at its end. Let it end, or name one of its checkpoints."
        )
    if source.count("/") > 1 or source.startswith((".", "/", "~", "runs/")):
        raise ValueError(f"{source}: there is no such folder.")


def _check_tokenizer(source: str, vocab_size: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a model that knows other tokens than those of the training, or the same under other ids."""
    needed = count_ids(tokenizer)
    if not needed <= vocab_size < needed + LARGEST_MULTIPLE:
        raise ValueError(
            f"{source} has a vocabulary of {vocab_size:,}; the {needed:,} of the run's tokenizer are needed."
        )
    check_same_ids(source, tokenizer)
