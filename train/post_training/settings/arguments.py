"""The settings of a post-training run that neither TRL nor pre-training has, with their defaults and help."""

from dataclasses import dataclass
from typing import Literal

from train.settings.arguments import (
    RECIPES_FOLDER,
    TOKENIZER_HELP,
    RunArguments,
    SourceArguments,
    check_least,
    setting,
)


POST_TRAINING_RECIPES = RECIPES_FOLDER / "post_training"
Method = Literal["sft", "dpo", "grpo"]


@dataclass
class StartArguments:
    """The model to start from."""

    _argument_group_name = "model"

    init_from: str = setting("A run folder, a checkpoint, a Hub id, or Hugging Face's GPT-2.", "runs/demo")
    tokenizer: str | None = setting(TOKENIZER_HELP)
    attn_implementation: str = setting("Attention function: eager, sdpa, flash_attention_2, flex_attention.", "sdpa")
    embd_pdrop: float = setting("Dropout on the embeddings.", 0.0)
    attn_pdrop: float = setting("Dropout on the attention weights.", 0.0)
    resid_pdrop: float = setting("Dropout on what each layer adds to the residual stream.", 0.0)


@dataclass
class RowsArguments(SourceArguments):
    """The rows to train on, and which of them are for validation."""

    dataset: list[str] = setting(
        "'sample', a .parquet or .jsonl file, a folder of them, or a Hub id, with SYNTH's columns; sft also takes "
        "`messages`, or `prompt` and `completion`; dpo `chosen` and `rejected`.",
        ["sample"],
    )
    max_eval_samples: int | None = setting("Evaluate on the first so many validation rows; on all where unset.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, max_eval_samples=1)
        if len(self.dataset) > 1:
            raise ValueError(f"--dataset {' '.join(self.dataset)}: post-training takes one. Put their files together.")


@dataclass
class PairArguments:
    """Pairs that dpo makes from a model's own answers, where rows have a question and no `chosen` and `rejected`."""

    _argument_group_name = "pairs"

    pair_samples: int = setting("Answers to each question, right ones of which are paired with wrong ones.", 8)
    pair_temperature: float = setting("Temperature that they are sampled at.", 1.0)
    pair_tokens: int = setting("Tokens of an answer, its reasoning included, at most.", 64)
    pairs_per_question: int = setting("Pairs of one question, at most.", 4)

    def __post_init__(self) -> None:
        check_least(self, pair_samples=2, pair_tokens=2, pairs_per_question=1)
        if self.pair_temperature <= 0:
            raise ValueError(f"--pair_temperature {self.pair_temperature} must be above 0: answers must differ.")


@dataclass
class LoraArguments:
    """Low-rank adapters in place of training all weights; names, defaults and meanings are TRL's (`ModelConfig`)."""

    _argument_group_name = "LoRA"

    use_peft: bool = setting("Train low-rank adapters (LoRA) only; the run folder holds the merged model.", False)
    lora_r: int = setting("Rank of the adapters.", 16)
    lora_alpha: int = setting("The adapters are scaled by lora_alpha / lora_r.", 32)
    lora_dropout: float = setting("Dropout before the adapters.", 0.05)
    lora_target_modules: list[str] | None = setting("Layers with an adapter, e.g. q_proj v_proj; all-linear if unset.")
    use_rslora: bool = setting("Scale by lora_alpha / sqrt(lora_r) (rank-stabilised LoRA).", False)
    use_dora: bool = setting("Learn direction and magnitude apart (DoRA).", False)

    def __post_init__(self) -> None:
        check_least(self, lora_r=1)
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"--lora_dropout {self.lora_dropout} must be in [0, 1).")


@dataclass
class PostTrainingRunArguments(RunArguments):
    """The work of a run around its training."""

    config: str = setting("The recipe: a YAML file of settings.", str(POST_TRAINING_RECIPES / "demo_sft.yaml"))
    method: Method = setting("sft (supervised fine-tuning), dpo (preference) or grpo (reinforcement).", "sft")
    forgetting_sequences: int = setting(
        "Validation sequences of the pre-training whose loss is measured before and after; 0 for none.", 64
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, forgetting_sequences=0)
