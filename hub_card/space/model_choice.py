"""Chooses the model that the page shows: a folder, a model on the Hub, or, for a Space, one commit of it."""

from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HFValidationError, HTTPError, RepositoryNotFoundError

from hub_card.space.chat.settings import Settings
from hub_card.staging import EXPORT_BRANCH
from hub_card.upload import UploadError
from train.evaluation.opened_model import check_folder, longest_sequence, read_own_settings
from train.run_files import CONFIG_FILE, RECIPE_FILE, WEIGHTS_PATTERN, read_dict


GENERAL_EXAMPLES = ["What is the capital of France?", "Why is the sky blue?", "Who wrote Hamlet?"]


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


def choose_published_model(model_id: str) -> tuple[Settings, bool]:
    """A model for a Space, at its newest commit on the Hub, and whether it is private: the branch `gpt2`, where there
    is one, since it opens without any code of the repository; else `main`, whose code the Space runs. A `ValueError`
    where there is no such model, an `UploadError` where the Hub cannot be asked."""
    api = HfApi()
    try:
        has_export = api.revision_exists(model_id, EXPORT_BRANCH)
        info = api.model_info(model_id, revision=EXPORT_BRANCH if has_export else None)
        files = {sibling.rfilename for sibling in info.siblings or []}
        if CONFIG_FILE not in files or not any(Path(file).match(WEIGHTS_PATTERN) for file in files):
            raise ValueError(f"{model_id} on the Hub holds no model ({CONFIG_FILE}, {WEIGHTS_PATTERN}).")
        config = read_dict(Path(hf_hub_download(model_id, CONFIG_FILE, revision=info.sha)))
        # The recipe is on `main`: the branch `gpt2` has none.
        has_recipe = api.file_exists(model_id, RECIPE_FILE)
        recipe = Path(hf_hub_download(model_id, RECIPE_FILE)) if has_recipe else None
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{model_id} is not on the Hub, or hidden from you. Publish the run first (python -m hub_card.publish "
            f"runs/NAME --repo_id {model_id}); for a private model, log in (hf auth login)."
        ) from error
    except (HTTPError, OSError) as error:
        raise UploadError(f"The Hub cannot be asked for {model_id}: {error}") from error
    settings = Settings(
        title=model_id.rpartition("/")[2],
        model=model_id,
        revision=info.sha,
        trust_remote_code="auto_map" in config,
        **_read_recipe(recipe),
    )
    return settings, bool(info.private)


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
