"""Chooses the model that the page shows: a folder, a model on the Hub, or, for a Space, one commit of it."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HFValidationError, HTTPError, RepositoryNotFoundError

from hub_card.export.formats import ONNX_FILES, ONNX_FOLDER
from hub_card.staging import EXPORT_BRANCH
from hub_card.upload import UploadError
from train.evaluation.opened_model import check_folder, longest_sequence, read_own_settings
from train.run_files import CONFIG_FILE, RECIPE_FILE, WEIGHTS_PATTERN, read_dict


GRAPH = f"{ONNX_FOLDER}/{ONNX_FILES['8 bits']}"
GENERAL_EXAMPLES = ["What is the capital of France?", "Why is the sky blue?", "Who wrote Hamlet?"]


@dataclass(frozen=True)
class Settings:
    """What the page shows, and how it begins."""

    title: str
    model: str  # a folder, or an id on the Hub
    revision: str | None = None  # the commit of a model on the Hub
    # Tokens that question and reply may take together; `None` takes all positions of the model. Positions beyond the
    # length of the training sequences are untrained.
    context: int | None = None
    examples: list[str] = field(default_factory=list)  # questions to try
    temperature: float = 0.7  # of sampling, at first
    # A new question comes with the earlier ones, unless the visitor decides otherwise. This helps a model that was
    # trained on conversations; a pre-trained one has seen single questions only.
    remember: bool = False


def choose_model(name: str) -> Settings:
    """A model for this machine: the folder of that name, else the newest copy of a model on the Hub. Its code is never
    trusted: this package's own classes open what it trained. A `ValueError` where there is no such model, an
    `UploadError` where the Hub cannot be asked and no copy is kept here."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        title, recipes = folder.resolve().name, [folder / RECIPE_FILE, folder.parent / RECIPE_FILE]
    else:
        patterns = ["*.json", "*.jinja", "*.txt", RECIPE_FILE, WEIGHTS_PATTERN]
        try:
            folder = Path(snapshot_download(name, allow_patterns=patterns))
        except (HFValidationError, RepositoryNotFoundError) as error:
            raise ValueError(f"{name} is neither a folder here nor a model on the Hub.") from error
        except (HTTPError, OSError) as error:
            raise UploadError(f"There is no folder {name} here, and the Hub cannot be asked: {error}") from error
        title, recipes = name, [folder / RECIPE_FILE]
    check_folder(folder)
    recipe = next((file for file in recipes if file.is_file()), None)
    return Settings(title, str(folder), **_read_recipe(recipe))


def choose_published_model(model_id: str) -> Settings:
    """A model for a Space: the newest commit of its branch `gpt2` on the Hub. A `ValueError` where there is none that a
    visitor's browser can run, an `UploadError` where the Hub cannot be asked."""
    api = HfApi()
    try:
        info = api.model_info(model_id)
        if info.private:
            raise ValueError(f"{model_id} is private, and a visitor's browser could not read it: make it public first.")
        has_export = api.revision_exists(model_id, EXPORT_BRANCH)
        export = api.model_info(model_id, revision=EXPORT_BRANCH) if has_export else info
        if GRAPH not in {sibling.rfilename for sibling in export.siblings or []}:
            raise ValueError(
                f"{model_id} has no {GRAPH} on a branch {EXPORT_BRANCH}: publish the run again, without "
                "--without_hf_gpt2 and with pip install -c constraints.txt -e .[export]."
            )
        config = read_dict(Path(hf_hub_download(model_id, CONFIG_FILE, revision=export.sha)))
        # The recipe is on `main`: the branch `gpt2` has none.
        has_recipe = api.file_exists(model_id, RECIPE_FILE)
        recipe = Path(hf_hub_download(model_id, RECIPE_FILE)) if has_recipe else None
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{model_id} is not on the Hub, or hidden from you. Publish the run first (python -m hub_card.publish "
            f"runs/NAME --repo_id {model_id})."
        ) from error
    except (HTTPError, OSError) as error:
        raise UploadError(f"The Hub cannot be asked for {model_id}: {error}") from error
    settings = Settings(title=model_id.rpartition("/")[2], model=model_id, revision=export.sha, **_read_recipe(recipe))
    return replace(settings, context=min(config["n_positions"], settings.context or config["n_positions"]))


def _read_recipe(recipe_file: Path | None) -> dict:
    """The settings of the page that a run's recipe gives."""
    recipe = read_own_settings(recipe_file) if recipe_file else {}
    found = {
        "examples": recipe.get("sample_prompts") or GENERAL_EXAMPLES,
        "temperature": recipe.get("sample_temperature"),
        "context": longest_sequence(recipe),
        "remember": "method" in recipe,  # of post-training, on conversations
    }
    return {name: value for name, value in found.items() if value is not None}
