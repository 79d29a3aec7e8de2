"""The model that a post-training run starts from."""

import torch
from transformers import PreTrainedTokenizerBase, set_seed

from modeling_gpt2scratch import GPT2ScratchForCausalLM
from train.build_model import DROPOUTS, check_start, load_model
from train.hardware import set_up_model
from train.post_training.rehearsal import rehearse
from train.post_training.settings.lora import refuse_tied
from train.post_training.settings.recipe import PostTrainingRecipe


def check_start_model(recipe: PostTrainingRecipe, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse, by a `ValueError`, a model that the run cannot start from, as far as it shows without weights."""
    length_name = "--max_completion_length" if recipe.method == "grpo" else "--max_length"
    check_start(recipe.start.init_from, tokenizer, length_name, recipe.sequence_tokens)


def load_start_model(recipe: PostTrainingRecipe, tokenizer: PreTrainedTokenizerBase) -> GPT2ScratchForCausalLM:
    """The model in `--init_from`, in float32.

    Raises:
        ValueError, OSError: there is none, it is not whole, it reads other tokens, `--max_length` is beyond its
            context, its adapters cannot be merged into it, or it cannot take a step with these settings.
    """
    check_start_model(recipe, tokenizer)
    set_seed(recipe.training.seed)
    dropout = {name: vars(recipe.start)[name] for name in DROPOUTS}
    model = load_model(recipe.start.init_from, recipe.start.attn_implementation, dropout)
    refuse_tied(model, recipe.lora)
    rehearse(recipe, model.config, tokenizer)
    tokenizer.model_max_length = model.config.n_positions
    set_up_model(model, recipe.training.device, recipe.training.torch_compile)
    return model.to(torch.float32)  # the master weights; bf16 recipes train through autocast
