"""The model to evaluate, from a folder or the Hugging Face Hub, and what its recipe tells of its training."""

from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from huggingface_hub import hf_hub_download
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from modeling_gpt2scratch.loading import load_own_tokenizer, load_whole_model, refuse_adapter
from train.checkpointing.checkpoints import complete_checkpoints
from train.evaluation.record import hash_weights
from train.run_files import CONFIG_FILE, RECIPE_FILE, WEIGHTS_FILE
from train.settings.arguments import RECIPES_FOLDER, DataArguments, RunArguments, check_least
from train.settings.parser import OneLineParser, field_names, pick
from train.settings.recipe_file import read_recipe_file, settings_to_words


@dataclass(frozen=True)
class TrainedOn:
    data: DataArguments  # the defaults where the recipe names nothing else
    longest: int | None  # tokens of the longest sequence in training; `None` where the recipe does not say
    exam: str | None
    exam_tokens: int | None

    @property
    def split(self) -> tuple:
        """The settings that decide which rows were left out of the training."""
        data = self.data
        apart = (data.validation_dataset, data.validation_split)
        share = (data.validation_fraction, data.split_seed) if apart == (None, None) else apart
        return data.places(), *share


@dataclass(frozen=True)
class OpenedModel:
    name: str  # as it was asked for
    folder: Path | None  # `None` for a model from the Hub
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    trained_on: TrainedOn | None  # `None` for a model without a recipe of this project
    weight_files: list[Path]  # those that are at hand

    @property
    def context(self) -> int:
        return self.model.config.max_position_embeddings

    @property
    def window(self) -> int:
        """Tokens that it reads at once: positions beyond its training's sequences were never trained."""
        return min(self.context, (self.trained_on and self.trained_on.longest) or self.context)

    @property
    def reads_after_end_of_text(self) -> bool:
        return self.trained_on is None or self.trained_on.data.packing != "best_fit"

    @property
    def is_run_folder(self) -> bool:
        return self.folder is not None and (self.folder / RECIPE_FILE).is_file() and not _is_checkpoint(self.folder)

    @property
    def label(self) -> str:
        """A short name for tables and pictures, which no path is part of: a folder's, or the Hub id."""
        if self.folder is None:
            return self.name
        folder = self.folder.resolve()
        return f"{folder.parent.name}/{folder.name}" if _is_checkpoint(folder) else folder.name

    def describe(self) -> dict:
        """`model` in evaluation.json."""
        described = {
            "name": self.label,
            "parameters": self.model.num_parameters(),
            "weights_sha256": hash_weights(self.weight_files),
            "window_tokens": self.window,
        }
        if self.trained_on is not None:
            data = self.trained_on.data
            names = [Path(name).name if Path(name).exists() else name for name in data.dataset]
            revisions = ", ".join(data.dataset_revision or []) or None
            described |= {"trained_on": ", ".join(names), "dataset_revision": revisions}
        return described


def open_model(name: str) -> OpenedModel:
    """Load model, tokenizer and recipe onto this process's device; a `ValueError` where there is no model of that name,
    it is not whole, or its tokenizer lacks what is needed."""
    path = Path(name).expanduser()
    folder = path if path.exists() else None
    if folder is not None:
        check_folder(folder)
    where = str(folder or name)
    try:
        model = load_whole_model(where).to(PartialState().device)
        tokenizer = load_own_tokenizer(where, model.config.vocab_size)
    except OSError as error:
        missing = "" if folder else f"{name}: There is no such folder here, and it cannot be had from the Hub: "
        raise ValueError(f"{missing}{error}") from error
    if tokenizer.eos_token_id is None or not tokenizer.is_fast:
        raise ValueError(f"{name}: its tokenizer has no end-of-text token, or no fast version; both are needed.")
    weights = folder.glob("*.safetensors") if folder else filter(None, [_find_on_hub(name, WEIGHTS_FILE)])
    recipe = find_recipe(name)
    trained_on = None if recipe is None else read_trained_on(recipe)
    return OpenedModel(name, folder, model, tokenizer, trained_on, list(weights))


def find_recipe(name: str) -> Path | None:
    """The recipe beside a model, in a folder or on the Hub; `None` where there is none, or none can be had."""
    folder = Path(name).expanduser()
    if not folder.exists():
        return _find_on_hub(name, RECIPE_FILE)
    return folder / RECIPE_FILE if (folder / RECIPE_FILE).is_file() else None


def demo_recipe() -> TrainedOn:
    """The shipped demo recipe, for models without a recipe."""
    demo = read_trained_on(RECIPES_FOLDER / "demo.yaml")
    assert demo is not None
    return demo


def read_trained_on(recipe: Path) -> TrainedOn | None:
    """From a recipe of pre-training or post-training; `None` where it names no rows, a `ValueError` where it is
    damaged."""
    settings = read_own_settings(recipe)
    if "dataset" not in settings:
        return None
    data = pick(settings, DataArguments)
    return TrainedOn(data, longest_sequence(settings), settings.get("exam"), settings.get("exam_tokens"))


@dataclass
class _OtherSettings:
    """Of pre-training's model and of post-training, what is read here."""

    init_from: str | None = None
    method: str | None = None
    max_length: int | None = None  # TRL's

    def __post_init__(self) -> None:
        check_least(self, max_length=2)


def read_own_settings(recipe: Path) -> dict:
    """What a recipe says of rows, lengths and samples, each in its own type; settings that it leaves out are absent. A
    `ValueError` where it is damaged, or a value is none of its setting's."""
    settings = read_recipe_file(str(recipe))
    if "method" in settings:
        settings.pop("packing", None)  # another setting of that name, TRL's
    groups = (DataArguments, RunArguments, _OtherSettings)
    names = [name for group in groups for name in field_names(group) if settings.get(name) is not None]
    try:
        words = settings_to_words({name: settings[name] for name in names})
        parsed = OneLineParser(groups).parse_args_into_dataclasses(words)
    except ValueError as error:
        raise ValueError(f"{recipe}: {error}") from error
    return {name: value for group in parsed for name, value in vars(group).items() if name in names}


def longest_sequence(settings: dict) -> int | None:
    """A recipe that bounds no positions (one of grpo) sends on to the run that it started from."""
    longest = settings.get("sequence_length") or settings.get("max_length")
    start = Path(settings.get("init_from") or "") / RECIPE_FILE
    if longest is None and start.is_file():
        return longest_sequence(read_own_settings(start))
    return longest


def check_folder(folder: Path) -> None:
    """Refuse a local path without a model, by a `ValueError`."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: name the folder that a model was saved in, or a Hub id.")
    refuse_adapter(folder)
    if (folder / CONFIG_FILE).is_file():
        return
    checkpoints = complete_checkpoints(folder)
    if not checkpoints and not (folder / RECIPE_FILE).is_file():
        raise ValueError(f"{folder} holds no model: there is no {CONFIG_FILE} in it.")
    newest = f" Its newest checkpoint is {checkpoints[0]}." if checkpoints else ""
    raise ValueError(f"{folder} has no model yet: its run is still training, or was stopped.{newest}")


def _is_checkpoint(folder: Path) -> bool:
    return folder.resolve().name.startswith("checkpoint-")


def _find_on_hub(name: str, file: str) -> Path | None:
    try:
        return Path(hf_hub_download(name, file))
    except OSError:
        return None
