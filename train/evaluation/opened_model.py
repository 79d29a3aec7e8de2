"""The model to evaluate: from a run folder, a checkpoint, any other model folder, or the Hugging Face Hub."""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from accelerate import PartialState
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

import modeling_gpt2scratch  # noqa: F401  registers the model with the Auto classes
from train.checkpointing.checkpoints import complete_checkpoints
from train.evaluation.record import hash_weights
from train.run_files import CONFIG_FILE, RECIPE_FILE, WEIGHTS_FILE
from train.settings.arguments import DataArguments
from train.settings.recipe_file import read_recipe_file


@dataclass(frozen=True)
class TrainedOn:
    """What a recipe tells of the rows that a model was trained on.

    Args:
        longest: tokens of the longest sequence in training; `None` where the recipe does not say.
        exam, exam_tokens: the recipe's, `None` where it has none.
    """

    data: DataArguments
    longest: int | None
    exam: str | None
    exam_tokens: int | None

    @property
    def split(self) -> tuple:
        """What decides which rows were left out of the training."""
        data = self.data
        return data.dataset, data.dataset_revision, data.dataset_split, data.validation_fraction, data.split_seed


@dataclass(frozen=True)
class OpenedModel:
    """
    Args:
        name: as it was asked for.
        folder: where it lies; `None` for one from the Hub.
        trained_on: `None` for a model without a recipe of this project.
        weight_files: files of its weights that are at hand.
    """

    name: str
    folder: Path | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    trained_on: TrainedOn | None
    weight_files: list[Path]

    @cached_property
    def weights_sha256(self) -> str | None:
        """Names the weights; see `hash_weights`."""
        return hash_weights(self.weight_files)

    @property
    def context(self) -> int:
        """Tokens that the model can take."""
        return self.model.config.max_position_embeddings

    @property
    def window(self) -> int:
        """Tokens that it reads at once: positions beyond its training's sequences were never trained."""
        longest = self.trained_on.longest if self.trained_on is not None else None
        return self.context if longest is None else min(self.context, longest)

    @property
    def reads_after_end_of_text(self) -> bool:
        """Whether an end-of-text token stood before its training's documents."""
        return self.trained_on is None or self.trained_on.data.packing != "best_fit"

    @property
    def is_run_folder(self) -> bool:
        """Whether it is the final model of a run, and not a checkpoint or another folder."""
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
            "weights_sha256": self.weights_sha256,
        }
        if self.trained_on is not None:
            data = self.trained_on.data
            dataset = Path(data.dataset).name if Path(data.dataset).exists() else data.dataset
            described |= {"trained_on": dataset, "dataset_revision": data.dataset_revision}
        return described


def open_model(name: str) -> OpenedModel:
    """Load model, tokenizer and recipe onto this process's device.

    Raises:
        ValueError: there is no model of that name, or its tokenizer lacks what is needed.
    """
    path = Path(name).expanduser()
    folder = path if path.exists() else None
    if folder is not None:
        _check_folder(folder)
    where = str(folder) if folder is not None else name
    try:
        model = AutoModelForCausalLM.from_pretrained(where).to(PartialState().device).eval()
        tokenizer = AutoTokenizer.from_pretrained(where)
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        missing = "" if folder is not None else "There is no such folder here, and it cannot be had from the Hub: "
        raise ValueError(f"{name}: {missing}{reason}") from error
    if tokenizer.eos_token_id is None or not tokenizer.is_fast:
        raise ValueError(f"{name}: its tokenizer has no end-of-text token, or no fast version; both are needed.")
    if folder is not None:
        weights = sorted(folder.glob("*.safetensors"))
        trained_on = _read_recipe(folder / RECIPE_FILE)
    else:
        weights = [file for file in [_file_on_hub(name, WEIGHTS_FILE)] if file is not None]
        trained_on = _read_recipe(_file_on_hub(name, RECIPE_FILE))
    return OpenedModel(name, folder, model, tokenizer, trained_on, weights)


def _check_folder(folder: Path) -> None:
    """Refuse what holds no model, with the reason that is likely."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: name the folder that a model was saved in, or a Hub id.")
    if (folder / CONFIG_FILE).is_file():
        return
    checkpoints = complete_checkpoints(folder)
    if checkpoints:
        raise ValueError(
            f"{folder} has no model yet: its run is still training, or was stopped. Its newest checkpoint is "
            f"{checkpoints[0]}."
        )
    if (folder / RECIPE_FILE).is_file():
        raise ValueError(f"{folder} has no model yet: its run is still training, or was stopped before a checkpoint.")
    raise ValueError(f"{folder} holds no model: there is no config.json in it.")


def _is_checkpoint(folder: Path) -> bool:
    return folder.resolve().name.startswith("checkpoint-")


def _file_on_hub(name: str, file: str) -> Path | None:
    """A file of a model on the Hub; `None` where it has none, or none can be had."""
    try:
        return Path(hf_hub_download(name, file))
    except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError):
        return None


def _read_recipe(file: Path | None) -> TrainedOn | None:
    """The rows' settings in a resolved recipe; `None` where there is none, or it is no recipe of rows like ours."""
    if file is None or not file.is_file():
        return None
    settings = read_recipe_file(str(file))
    return to_trained_on(settings) if "dataset" in settings else None


def to_trained_on(settings: dict) -> TrainedOn:
    """Of a recipe of pre-training or post-training; the defaults for what it does not name."""
    names = {field.name for field in fields(DataArguments)}
    data = DataArguments(**{name: value for name, value in settings.items() if name in names})
    return TrainedOn(data, _longest_sequence(settings), settings.get("exam"), settings.get("exam_tokens"))


def _longest_sequence(settings: dict) -> int | None:
    """A recipe that bounds no positions (one of grpo) sends on to the run that it started from."""
    longest = settings.get("sequence_length") or settings.get("max_length")  # the latter is TRL's
    start = Path(settings.get("init_from") or "") / RECIPE_FILE
    if longest is None and start.is_file():
        return _longest_sequence(read_recipe_file(str(start)))
    return longest
