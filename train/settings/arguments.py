"""The settings of a pre-training run that `TrainingArguments` does not have, with their defaults and help.

Each group refuses values of its own that cannot work; `train.settings.checks` refuses what does not fit together.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


RECIPES_FOLDER = Path(__file__).parent.parent / "recipes"
LARGEST_RATIO = 10**6  # of two datasets' weights
LARGEST_MULTIPLE = 1024  # that a vocabulary is filled up to
TOKENIZER_HELP = "A folder, a Hub id, or 'sample', for a fresh model of the sample; else --init_from's, or GPT-2's."


def setting(help: str, default: Any = None) -> Any:
    """A dataclass field with its `--help` text."""
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata={"help": help})
    return field(default=default, metadata={"help": help})


def check_least(group: object, **least: float) -> None:
    """Refuse values of a group below these limits; a setting that is unset passes."""
    for name, limit in least.items():
        value = vars(group)[name]
        if value is not None and value < limit:
            raise ValueError(f"--{name} {value} must be at least {limit}.")


def parse_weights(name: str, words: list[str] | None) -> dict[str, float]:
    """`["rag=2", "mcq=0.5"]` as a dictionary; a `ValueError` for another form, or a weight that is not in [0, 100]."""
    weights = {}
    for word in words or []:
        kind, _, number = word.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if not kind or not 0 <= weight <= 100:
            raise ValueError(f"--{name} {word}: NAME=WEIGHT is wanted, with a weight from 0 to 100, as in rag=2.")
        weights[kind] = weight
    return weights


@dataclass
class ModelArguments:
    """The model to build; the defaults are GPT-2 124M."""

    _argument_group_name = "model"

    n_layer: int = setting("Number of transformer blocks.", 12)
    n_head: int = setting("Number of attention heads; must divide n_embd.", 12)
    n_embd: int = setting("Width of the residual stream.", 768)
    n_inner: int | None = setting("Inner width of the feed-forward layers; 4 * n_embd where unset.")
    n_positions: int = setting("Context in tokens: the longest sequence that the model can take.", 1024)
    initializer_range: float = setting("Standard deviation of the initial weights; 0.02 suits wide models.", 0.02)
    embd_pdrop: float = setting("Dropout on the embeddings.", 0.1)
    attn_pdrop: float = setting("Dropout on the attention weights.", 0.1)
    resid_pdrop: float = setting("Dropout on what each layer adds to the residual stream.", 0.1)
    attn_implementation: str = setting("Attention function: eager, sdpa, flash_attention_2, flex_attention.", "sdpa")
    init_from: str | None = setting(
        "Start from the weights and sizes of a run folder, a Hub id, or Hugging Face's GPT-2; dropout is as set here."
    )
    tokenizer: str | None = setting(TOKENIZER_HELP)
    pad_vocab_to_multiple_of: int = setting("Fill the vocabulary up while training, for speed on GPUs: 64.", 1)

    def __post_init__(self) -> None:
        check_least(self, pad_vocab_to_multiple_of=1)
        if self.pad_vocab_to_multiple_of > LARGEST_MULTIPLE:
            raise ValueError(f"--pad_vocab_to_multiple_of {self.pad_vocab_to_multiple_of}: at most {LARGEST_MULTIPLE}.")


@dataclass
class SourceArguments:
    """The rows to train on, and which of them are for validation."""

    _argument_group_name = "data"

    dataset: list[str] = setting(
        "'sample', a file or folder (.parquet, .jsonl, .txt), or a Hub id; or several of these.", ["sample"]
    )
    dataset_config: list[str] | None = setting(
        "Configuration of a Hub dataset that has several, e.g. 20231101.en; of several datasets one for each, in order."
    )
    dataset_revision: list[str] | None = setting("Branch, tag or commit of a Hub dataset; likewise.")
    dataset_split: list[str] = setting("Split of a Hub dataset; likewise, or one for all.", ["train"])
    languages: list[str] | None = setting("Keep only rows in these languages, e.g. en fr; all where unset.")
    exercises: list[str] | None = setting("Keep only rows of these exercises, e.g. mcq rag; all where unset.")
    max_samples: int | None = setting("Stop at this many usable rows of both parts; pre-training to within 1,000 rows.")
    validation_fraction: float = setting(
        "Share of SYNTH's seed articles, texts, or first messages, held out for validation.", 0.02
    )
    split_seed: int = setting("Chooses which these are.", 0)
    validation_dataset: str | None = setting(
        "All rows for validation, in place of a share: as --dataset. Training rows of the same seed article or text go."
    )
    validation_split: str | None = setting(
        "The split of that Hub dataset; without one, of --dataset, e.g. validation. 'train' where unset."
    )
    data_cache_dir: str | None = setting("Where tokenised rows are kept; beside the cache of datasets where unset.")

    def __post_init__(self) -> None:
        check_least(self, max_samples=1)
        self.places()
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"--validation_fraction {self.validation_fraction} must be between 0 and 1: training and evaluation "
                "both need rows."
            )

    def places(self) -> list[tuple[str, str | None, str, str | None]]:
        """Name, revision, split and configuration of each dataset; a `ValueError` where one is named twice, or their
        numbers do not fit."""
        count = len(self.dataset)
        if not count:
            raise ValueError("--dataset names no rows: give a file, a folder, a Hub id, or 'sample'.")
        splits = self.dataset_split * (count if len(self.dataset_split) == 1 else 1)
        given = {"revision": (self.dataset_revision, "main"), "split": (splits, "train")}
        given["config"] = (self.dataset_config, "default")
        for name, (values, usual) in given.items():
            if values is not None and len(values) != count:
                raise ValueError(
                    f"--dataset_{name} {' '.join(values)}: give one for each dataset, {count} in all, in their order; "
                    f"for files, or where there is no choice, {usual}."
                )
        unset = [None] * count
        places = [*zip(self.dataset, self.dataset_revision or unset, splits, self.dataset_config or unset, strict=True)]
        for place in places:
            if places.count(place) > 1:
                raise ValueError(f"--dataset names {place[0]} twice. To use it more often, raise its weight.")
        return places


@dataclass
class DataArguments(SourceArguments):
    """The rows to train on, and how they are cut into sequences."""

    dataset_weights: list[float] | None = setting(
        "Shares of several datasets in the training tokens, e.g. 0.7 0.3: an epoch ends when each sequence of all was "
        "used, some of them again; each is used once where unset. --max_samples and --max_tokens count for each."
    )
    text_column: str | None = setting(
        "The column that holds the text; where unset, SYNTH's columns, else `text`, else `messages`."
    )
    document_separator: str | None = setting(
        r"Parts a .txt file into documents, e.g. '\n\n' or '<|endoftext|>'; where unset, passages of about 8 KB are."
    )
    require_reasoning: bool = setting("Keep only rows with reasoning.", False)
    min_row_tokens: int | None = setting("Drop rows with fewer tokens.")
    max_row_tokens: int | None = setting("Drop rows with more tokens.")
    exercise_weights: list[str] | None = setting("How often rows of an exercise are used, e.g. rag=2 mcq=0.5.")
    language_weights: list[str] | None = setting("The same by language, e.g. en=1 fr=0.3; both multiply.")
    drop_duplicates: bool = setting("Drop documents whose text came before, after a first pass over all rows.", False)
    decontaminate: list[str] | None = setting(
        "Drop training rows that share 13 words in a row with these files, or with lm-eval tasks of these names."
    )
    max_tokens: int | None = setting("Stop after this many training tokens, to within 1,000 rows.")
    packing: Literal["concat", "best_fit"] = setting(
        "concat: documents in a row, cut at a sequence's end. best_fit: whole documents, kept apart, and padding.",
        "concat",
    )
    streaming: bool = setting("Tokenise while training, for data that does not fit the disk; needs --max_steps.", False)
    shuffle_buffer: int = setting("Rows that each stream shuffles at once, with --streaming.", 10_000)
    broken_shards: Literal["stop", "skip"] = setting("Stop at an unreadable file, or skip and count its part.", "stop")
    dataset_num_proc: int = setting("Processes that prepare the data.", 1)
    sequence_length: int = setting("Tokens in a training sequence.", 512)
    max_eval_sequences: int | None = setting("Evaluate on the first so many validation sequences; on all where unset.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, sequence_length=2, max_tokens=1, shuffle_buffer=1, dataset_num_proc=1)
        check_least(self, max_eval_sequences=1, min_row_tokens=1, max_row_tokens=self.min_row_tokens or 1)
        if self.document_separator is not None:
            self.document_separator = self.document_separator.replace("\\n", "\n").replace("\\t", "\t")
            if not self.document_separator:
                raise ValueError("--document_separator '' parts nothing: leave it out, or give one such as '\\n\\n'.")
        self._check_dataset_weights()
        parse_weights("exercise_weights", self.exercise_weights)
        parse_weights("language_weights", self.language_weights)
        if self.streaming and self.max_eval_sequences is None:
            raise ValueError("--streaming needs --max_eval_sequences: these are gathered before training.")
        if self.streaming and self.drop_duplicates:
            raise ValueError("--drop_duplicates true: a stream does not know what others have read. Leave out one.")
        for name in ("max_samples", "max_tokens"):
            if self.streaming and vars(self)[name] is not None:
                raise ValueError(f"--{name} {vars(self)[name]}: a stream ends where the run does. Set --max_steps.")

    def _check_dataset_weights(self) -> None:
        weights, count = self.dataset_weights, len(self.dataset)
        if weights is None:
            if self.streaming and count > 1:
                raise ValueError("--streaming of several datasets needs --dataset_weights: their sizes are not known.")
            return
        given = f"--dataset_weights {' '.join(f'{weight:g}' for weight in weights)}"
        if len(weights) != count:
            raise ValueError(f"{given}: give one for each dataset, {count} in all, in their order.")
        if not min(weights) > 0 or max(weights) / min(weights) > LARGEST_RATIO:
            raise ValueError(f"{given}: each must be above 0, and none above {LARGEST_RATIO:,} times another.")


@dataclass
class OptimizerArguments:
    """Which optimizer, and how fast each kind of weight learns."""

    _argument_group_name = "optimizer"

    optim_name: Literal["adamw", "muon"] = setting(
        "adamw: AdamW, or what --optim names. muon: Muon for the blocks' matrices, AdamW for the rest.", "adamw"
    )
    hidden_lr_scale: float = setting("Learning rate of the blocks' matrices, as a multiple of --learning_rate.", 1.0)
    embedding_lr_scale: float = setting("Learning rate of the embeddings and the head tied to them, likewise.", 1.0)
    muon_momentum: float = setting("Momentum of Muon.", 0.95)
    decay_steps: float = setting(
        "Steps, or below 1 the share of the run, over which the rate of warmup_stable_decay falls at the end.", 0.2
    )

    def __post_init__(self) -> None:
        for name in ("hidden_lr_scale", "embedding_lr_scale", "decay_steps"):
            if vars(self)[name] <= 0:
                raise ValueError(f"--{name} {vars(self)[name]} must be above 0.")
        if not 0 <= self.muon_momentum < 1:
            raise ValueError(f"--muon_momentum {self.muon_momentum} must be in [0, 1).")

    @property
    def differs_from_stock(self) -> bool:
        """Whether the Trainer's own optimizer, one learning rate for all weights, would not do."""
        return (self.optim_name, self.hidden_lr_scale, self.embedding_lr_scale) != ("adamw", 1.0, 1.0)


@dataclass
class RunArguments:
    """The work of a run around its training."""

    _argument_group_name = "run"

    config: str = setting("The recipe: a YAML file of settings.", str(RECIPES_FOLDER / "demo.yaml"))
    dry_run: bool = setting("Print the resolved recipe and what it amounts to, and stop.", False)
    html_report: bool = setting("Keep report.html in the run folder, all of the run on one page.", True)
    sample_prompts: list[str] | None = setting(
        "Questions that the model answers after each evaluation, for the eye; one of texts continues them."
    )
    sample_tokens: int = setting("Tokens to write for each of them, at most.", 64)
    sample_temperature: float = setting("Temperature of these samples; 0 takes the likeliest token.", 0.7)
    fsdp_size: int = setting("Processes that hold a part of the model each (FSDP2); others repeat them (HSDP).", 1)
    tp_size: int = setting("Processes that share each matrix of the blocks (tensor parallelism).", 1)
    cpu_threads: int | None = setting("Threads of each process on CPUs; its share of the cores where unset.")
    exam: str | None = setting("Questions asked before and after training: 'sample', or a .parquet or .jsonl file.")
    exam_tokens: int = setting("Tokens of an answer in the exam, its reasoning included, at most.", 64)
    loss_spike_score: float = setting("Report a loss so many standard deviations above the last 128; 0: never.", 6.0)
    skip_loss_spikes: bool = setting("Leave such steps out, weights and optimizer as they were.", False)
    global_batch_size: int | None = setting(
        "Sequences of an optimizer step, over all processes: the accumulated batches follow from their number."
    )
    async_save: bool = setting(
        "Write checkpoints while training goes on, from a copy of weights and optimizer in the host's memory, of their "
        "size once more. Pays where a core is free.",
        False,
    )
    resume_with_changes: list[str] | None = setting("Settings that are meant to differ from the resumed checkpoint's.")

    def __post_init__(self) -> None:
        check_least(self, sample_tokens=1, exam_tokens=1, cpu_threads=1, loss_spike_score=0, sample_temperature=0)
        check_least(self, global_batch_size=1, fsdp_size=1, tp_size=1)
