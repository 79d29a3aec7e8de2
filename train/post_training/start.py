"""The model that a post-training run starts from."""

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, set_seed

from modeling_gpt2scratch import GPT2ScratchForCausalLM
from train.build_model import DROPOUTS, check_length, load_model
from train.errors import RunRefusedError
from train.hardware import set_up_model
from train.post_training.settings.recipe import PostTrainingRecipe
from train.run_files import CONFIG_FILE


# Where the shipped recipes look for the demo, and what makes it.
DEMOS = {"runs/demo": "make pretrain", "runs/demo_sft": "make finetune"}


def load_start_model(recipe: PostTrainingRecipe, tokenizer: PreTrainedTokenizerBase) -> GPT2ScratchForCausalLM:
    """The model in `--init_from`, in float32.

    Raises:
        RunRefusedError: there is none, it has another vocabulary, or `--max_length` is beyond its context.
    """
    source = recipe.start.init_from
    _check_source(source)
    set_seed(recipe.training.seed)
    try:
        dropout = {name: vars(recipe.start)[name] for name in DROPOUTS}
        model = load_model(source, recipe.start.attn_implementation, dropout)
        length_name = "--max_completion_length" if recipe.method == "grpo" else "--max_length"
        check_length(model, length_name, recipe.sequence_tokens, source)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RunRefusedError(f"--init_from {source}: {reason}") from error
    if model.config.vocab_size != len(tokenizer):
        found, needed = f"{model.config.vocab_size:,}", f"{len(tokenizer):,}"
        raise RunRefusedError(f"--init_from {source} has a vocabulary of {found}; GPT-2's {needed} are needed.")
    tokenizer.model_max_length = model.config.n_positions
    set_up_model(model, recipe.training.device, recipe.training.torch_compile)
    return model.to(torch.float32)  # the master weights; bf16 recipes train through autocast


def _check_source(source: str) -> None:
    """Refuse a local path without a model; what is no such path is a Hub id."""
    folder = Path(source).expanduser()
    if (folder / CONFIG_FILE).is_file():
        return
    if source in DEMOS:
        raise RunRefusedError(f"--init_from {source} holds no finished model yet: run `{DEMOS[source]}` first.")
    if folder.exists():
        raise RunRefusedError(
            f"--init_from {source} holds no model: a run leaves it there at its end. Let it end, or name one of its "
            "checkpoints."
        )
    if source.count("/") > 1 or source.startswith((".", "/", "~", "runs/")):
        raise RunRefusedError(f"--init_from {source}: there is no such folder.")
