"""The settings of a run that transformers' `TrainingArguments` does not have, with their defaults and help."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


RECIPES_FOLDER = Path(__file__).parent.parent / "recipes"


def setting(help: str, default: Any = None) -> Any:
    """A dataclass field with its `--help` text."""
    return field(default=default, metadata={"help": help})


@dataclass
class ModelArguments:
    """The model to build; the defaults are GPT-2 124M."""

    _argument_group_name = "model"

    n_layer: int = setting("Number of transformer blocks.", 12)
    n_head: int = setting("Number of attention heads; must divide n_embd.", 12)
    n_embd: int = setting("Width of the residual stream.", 768)
    n_inner: int | None = setting("Inner width of the feed-forward layers; 4 * n_embd where unset.")
    n_positions: int = setting("Context in tokens: the longest sequence that the model can take.", 1024)
    initializer_range: float = setting(
        "Standard deviation of the initial weights; GPT-2's 0.02 suits wide models.", 0.02
    )
    embd_pdrop: float = setting("Dropout on the embeddings.", 0.1)
    attn_pdrop: float = setting("Dropout on the attention weights.", 0.1)
    resid_pdrop: float = setting("Dropout on what each layer adds to the residual stream.", 0.1)
    attn_implementation: str = setting("Attention function: eager, sdpa, flash_attention_2, flex_attention.", "sdpa")
    init_from: str | None = setting(
        "Start from these weights in place of random ones: a run folder, a Hub id, or a stock GPT-2. The settings of "
        "size are then taken from it; dropout is as set here."
    )


@dataclass
class DataArguments:
    """The rows to train on, and how they are cut."""

    _argument_group_name = "data"

    dataset: str = setting(
        "'sample' (embedded in the package), a .parquet or .jsonl file, a folder of them, or a Hub id. All need "
        "SYNTH's columns.",
        "sample",
    )
    dataset_revision: str | None = setting("Branch, tag or commit of a Hub dataset.")
    dataset_split: str = setting("Split of a Hub dataset.", "train")
    languages: list[str] | None = setting("Keep only rows in these languages, e.g. en fr; all where unset.")
    exercises: list[str] | None = setting("Keep only rows of these exercises, e.g. memorization rag; all where unset.")
    require_reasoning: bool = setting("Keep only rows with reasoning.", False)
    min_row_tokens: int | None = setting("Drop rows with fewer tokens.")
    max_row_tokens: int | None = setting("Drop rows with more tokens.")
    exercise_weights: list[str] | None = setting(
        "How often rows of an exercise are trained on, on average, e.g. rag=2 mcq=0.5; 1 for those not named."
    )
    language_weights: list[str] | None = setting("The same by language, e.g. en=1 fr=0.3; both multiply.")
    decontaminate: list[str] | None = setting(
        "Drop training rows that share 13 words in a row with these evaluation sets: .txt, .jsonl or .parquet files, "
        "or names of lm-eval tasks."
    )
    max_samples: int | None = setting(
        "Stop after this many usable rows of both parts, to within a batch of 1,000 rows."
    )
    max_tokens: int | None = setting("Stop after this many training tokens, to within a batch of 1,000 rows.")
    packing: str = setting(
        "concat: documents run together and are cut at a sequence's end, as in GPT-2. best_fit: whole documents side "
        "by side, attention kept inside each; the rest of a sequence is padding.",
        "concat",
    )
    streaming: bool = setting(
        "Tokenise while training, in place of before it: for what does not fit the disk. Needs --max_steps and "
        "--max_eval_sequences.",
        False,
    )
    shuffle_buffer: int = setting("Rows that each stream shuffles at once, with --streaming.", 10_000)
    broken_shards: str = setting(
        "stop: a file that cannot be read ends the run. skip: its unreadable part is left out and counted.", "stop"
    )
    dataset_num_proc: int = setting("Processes that prepare the data.", 1)
    sequence_length: int = setting("Tokens in a training sequence.", 512)
    validation_fraction: float = setting("Share of the seed articles whose rows are for validation.", 0.02)
    split_seed: int = setting("Chooses which seed articles these are.", 0)
    max_eval_sequences: int | None = setting("Evaluate on the first so many validation sequences; on all where unset.")
    data_cache_dir: str | None = setting(
        "Where tokenised data is kept; beside the datasets library's cache where unset."
    )


@dataclass
class OptimizerArguments:
    """Which optimizer, and how fast each kind of weight learns."""

    _argument_group_name = "optimizer"

    optim_name: str = setting(
        "adamw: AdamW for all weights (--optim names another of transformers' optimizers). muon: Muon for the blocks' "
        "matrices and AdamW for embeddings, norms and biases.",
        "adamw",
    )
    hidden_lr_scale: float = setting("Learning rate of the blocks' matrices, as a multiple of --learning_rate.", 1.0)
    embedding_lr_scale: float = setting("Learning rate of the embeddings and the head tied to them, likewise.", 1.0)
    muon_momentum: float = setting("Momentum of Muon.", 0.95)
    decay_steps: float = setting(
        "Steps, or below 1 the share of the run, over which the rate falls at its end under --lr_scheduler_type "
        "warmup_stable_decay.",
        0.2,
    )

    @property
    def differs_from_stock(self) -> bool:
        """Whether the Trainer's own optimizer, one learning rate for all weights, would not do."""
        return (self.optim_name, self.hidden_lr_scale, self.embedding_lr_scale) != ("adamw", 1.0, 1.0)


@dataclass
class RunArguments:
    """What the run does around the training."""

    _argument_group_name = "run"

    config: str = setting("The recipe: a YAML file of settings.", str(RECIPES_FOLDER / "demo.yaml"))
    dry_run: bool = setting("Print the resolved recipe and what it amounts to, and stop.", False)
    html_report: bool = setting("Keep report.html in the run folder, all of the run on one page.", True)
    sample_prompts: list[str] | None = setting(
        "Questions that the model answers after each evaluation, for the eye; none where unset."
    )
    sample_tokens: int = setting("Tokens to write for each of them, at most.", 64)
    sample_temperature: float = setting("Temperature of these samples; 0 takes the likeliest token.", 0.7)
    cpu_threads: int | None = setting(
        "Threads of each process when training on CPUs; all cores, shared by the processes of the machine, where unset "
        "(accelerate launch by itself leaves one)."
    )
    exam: str | None = setting(
        "Questions asked before and after training and marked by exact match: 'sample', or a .parquet or .jsonl file."
    )
    exam_tokens: int = setting("Tokens of an answer in the exam, its reasoning included, at most.", 64)
    loss_spike_score: float = setting(
        "Report a step whose loss is so many standard deviations above that of the last 128 steps; 0 for never.", 6.0
    )
    skip_loss_spikes: bool = setting("Leave such steps out, weights and optimizer as they were.", False)
    resume_with_changes: list[str] | None = setting(
        "Settings that are meant to differ from those of the checkpoint that is resumed; any other difference that "
        "would train something else is refused."
    )
