"""The rows that a model was trained on, as its recipe tells them."""

from dataclasses import dataclass, fields
from pathlib import Path

from train.run_files import RECIPE_FILE
from train.settings.arguments import RECIPES_FOLDER, DataArguments
from train.settings.recipe_file import read_recipe_file


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
        return data.dataset, data.dataset_revision, data.dataset_split, data.validation_fraction, data.split_seed


def demo_recipe() -> TrainedOn:
    """The shipped demo recipe, for models without a recipe."""
    demo = read_trained_on(RECIPES_FOLDER / "demo.yaml")
    assert demo is not None
    return demo


def read_trained_on(recipe: Path) -> TrainedOn | None:
    """From a recipe of pre-training or post-training; `None` where it names no rows.

    Raises:
        ValueError: it is damaged.
    """
    settings = read_recipe_file(str(recipe))
    if "dataset" not in settings:
        return None
    data = DataArguments(**{one.name: settings[one.name] for one in fields(DataArguments) if one.name in settings})
    return TrainedOn(data, _longest_sequence(settings), settings.get("exam"), settings.get("exam_tokens"))


def _longest_sequence(settings: dict) -> int | None:
    """A recipe that bounds no positions (one of grpo) sends on to the run that it started from."""
    longest = settings.get("sequence_length") or settings.get("max_length")  # the latter is TRL's
    start = Path(settings.get("init_from") or "") / RECIPE_FILE
    if longest is None and start.is_file():
        return _longest_sequence(read_recipe_file(str(start)))
    return longest
