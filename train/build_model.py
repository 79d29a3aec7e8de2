"""The model to train: fresh, or with earlier weights."""

from torch import float32
from transformers import AutoConfig, GPT2Config, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM, from_hf_gpt2
from train.settings.arguments import ModelArguments


DROPOUTS = ("embd_pdrop", "attn_pdrop", "resid_pdrop")  # a matter of the training, not of the weights


def build_config(model: ModelArguments, tokenizer: PreTrainedTokenizerBase) -> GPT2ScratchConfig:
    """The configuration of a fresh model; a `ValueError` for sizes that no model can have."""
    fields = {name: value for name, value in vars(model).items() if name not in ("init_from", "attn_implementation")}
    return GPT2ScratchConfig(
        vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, **fields
    )


def build_model(
    model: ModelArguments, tokenizer: PreTrainedTokenizerBase, sequence_length: int, seed: int
) -> PreTrainedModel:
    """A model with initial weights drawn from the seed, or with those of `init_from`; a `ValueError` for sizes that no
    model can have, or a sequence longer than the context of `init_from`."""
    set_seed(seed)  # every process draws the same weights
    if model.init_from is None:
        config = build_config(model, tokenizer)
        built = GPT2ScratchForCausalLM._from_config(config, attn_implementation=model.attn_implementation)
    else:
        built = load_model(model.init_from, model.attn_implementation, {name: vars(model)[name] for name in DROPOUTS})
        check_length(built, "--sequence_length", sequence_length, model.init_from)
    return built.to(float32)  # the master weights; bf16 recipes train through autocast


def load_model(source: str, attn_implementation: str, dropout: dict[str, float]) -> GPT2ScratchForCausalLM:
    """Earlier weights: those of a run, a checkpoint, a Hub id, or Hugging Face's GPT-2; dropout rates by name."""
    if isinstance(AutoConfig.from_pretrained(source), GPT2Config):
        model = from_hf_gpt2(source, **dropout)
        model.set_attn_implementation(attn_implementation)
        return model
    return GPT2ScratchForCausalLM.from_pretrained(source, attn_implementation=attn_implementation, **dropout)


def check_length(model: GPT2ScratchForCausalLM, name: str, tokens: int, source: str) -> None:
    """Refuse sequences that a loaded model has no positions for, by a `ValueError`."""
    if tokens > model.config.n_positions:
        raise ValueError(
            f"{name} {tokens} is longer than the context of {source}, {model.config.n_positions}: lower it."
        )
