"""Which model the page shows: a folder, a model on the Hub, or, for a Space, one commit of it."""

import json
from pathlib import Path

import yaml
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from hub_card.space.chat.settings import Settings
from hub_card.staging import STOCK_BRANCH
from hub_card.upload import UploadError
from train.run_files import CONFIG_FILE, RECIPE_FILE


GENERAL_EXAMPLES = ["What is the capital of France?", "Why is the sky blue?", "Who wrote Hamlet?"]
WEIGHTS_PATTERN = "model*.safetensors"


def choose_model(name: str) -> Settings:
    """A model to show on this machine: the folder of that name, else the model on the Hub, or what is kept of it here.

    Its code is never trusted: this package's own classes open what it trained.

    Raises:
        ValueError: there is no such model, or the folder holds none.
        UploadError: the Hub cannot be asked, and nothing of the model is kept here.
    """
    folder = Path(name)
    if folder.is_dir():
        check_folder(folder)
        recipe = next((file for file in (folder / RECIPE_FILE, folder.parent / RECIPE_FILE) if file.is_file()), None)
        return Settings(folder.resolve().name, str(folder), **_of_recipe(recipe))
    try:
        validate_repo_id(name)
        HfApi().model_info(name)
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise ValueError(f"{name} is neither a folder here nor a model on the Hub.") from error
    except (HTTPError, OSError) as error:
        try:
            kept = Path(snapshot_download(name, local_files_only=True))
        except LocalEntryNotFoundError:
            raise UploadError(f"There is no folder {name} here, and the Hub cannot be asked: {_line(error)}") from error
        return Settings(name, str(kept), **_of_recipe(kept / RECIPE_FILE))
    # Not by its commit: what is kept here is found again by the branch.
    return Settings(name, name, **_of_recipe(_download_recipe(name)))


def check_folder(folder: Path) -> None:
    """
    Raises:
        ValueError: no model can be opened from it.
    """
    if (folder / CONFIG_FILE).is_file() and any(folder.glob(WEIGHTS_PATTERN)):
        return
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: (len(path.name), path.name))
    if checkpoints:
        raise ValueError(f"{folder} holds no model yet: let its run end, or name a checkpoint, e.g. {checkpoints[-1]}.")
    raise ValueError(
        f"{folder} holds no model ({CONFIG_FILE}, {WEIGHTS_PATTERN}): name a run's folder, e.g. runs/demo."
    )


def choose_published_model(model_id: str) -> tuple[Settings, bool]:
    """A model to show in a Space, as it is on the Hub now; and whether it is private.

    The branch `gpt2` is taken where there is one: a stock GPT-2 opens with transformers' own code, so that the Space
    runs none that lies beside weights. Else it runs the code of `main`. Either way it stays with today's commit.

    Raises:
        ValueError: there is no such model.
        UploadError: the Hub cannot be asked.
    """
    api = HfApi()
    try:
        try:
            info = api.model_info(model_id, revision=STOCK_BRANCH)
        except RevisionNotFoundError:
            info = api.model_info(model_id)
        files = {sibling.rfilename for sibling in info.siblings or []}
        if CONFIG_FILE not in files or not any(Path(file).match(WEIGHTS_PATTERN) for file in files):
            raise ValueError(f"{model_id} on the Hub holds no model ({CONFIG_FILE}, {WEIGHTS_PATTERN}).")
        config = json.loads(Path(hf_hub_download(model_id, CONFIG_FILE, revision=info.sha)).read_text(encoding="utf-8"))
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{model_id} is not on the Hub, or hidden from you. Publish the run first (python -m hub_card.publish "
            f"runs/NAME --repo_id {model_id}); for a private model, log in (hf auth login)."
        ) from error
    except (HTTPError, OSError) as error:
        raise UploadError(f"The Hub cannot be asked for {model_id}: {_line(error)}") from error
    settings = Settings(
        title=model_id.rpartition("/")[2],
        model=model_id,
        revision=info.sha,
        trust_remote_code="auto_map" in config,
        **_of_recipe(_download_recipe(model_id)),
    )
    return settings, bool(info.private)


def _download_recipe(model_id: str) -> Path | None:
    """`None` where the model has none, or where it does not come: the page does without."""
    try:
        return Path(hf_hub_download(model_id, RECIPE_FILE))
    except (EntryNotFoundError, HTTPError, OSError):
        return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _of_recipe(recipe_file: Path | None) -> dict:
    """What a run's recipe says for the page: its length, its questions, and how their answers were sampled."""
    recipe = yaml.safe_load(recipe_file.read_text(encoding="utf-8")) if recipe_file and recipe_file.is_file() else {}
    found: dict = {"examples": recipe.get("sample_prompts") or GENERAL_EXAMPLES}
    if "sample_temperature" in recipe:
        found["temperature"] = recipe["sample_temperature"]
    if length := recipe.get("sequence_length") or recipe.get("max_length"):
        found["context"] = length
    found["remember"] = "method" in recipe  # of post-training, on conversations
    return found
