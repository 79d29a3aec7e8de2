"""The files of a Space: the chat page as it is here, and what says which model it shows and what it needs."""

import sys
from importlib.metadata import version
from pathlib import Path
from shutil import copyfile

from huggingface_hub import SpaceCardData

from hub_card.card.card import CARD_FILE
from hub_card.space.chat.settings import Settings, write_settings


APP_FILE = "app.py"
PAGE_FOLDER = "chat"
# Plain builds of torch come with gigabytes for GPUs; this index has those for CPUs.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def stage_space(settings: Settings, place: Path, space_id: str) -> Path:
    """Write the Space's files into `place`; returns their folder."""
    here, folder = Path(__file__).parent, place / "space"
    (folder / PAGE_FOLDER).mkdir(parents=True)
    copyfile(here / APP_FILE, folder / APP_FILE)
    for file in sorted((here / PAGE_FOLDER).iterdir()):
        if file.suffix in (".py", ".css"):
            copyfile(file, folder / PAGE_FOLDER / file.name)
    write_settings(settings, folder)
    (folder / "requirements.txt").write_text(list_requirements(), encoding="utf-8")
    (folder / CARD_FILE).write_text(render_space_card(settings, space_id), encoding="utf-8")
    return folder


def list_requirements() -> str:
    """The versions that are installed here, which are those that the check runs; Gradio's is in the card."""
    pins = [f"{name}=={_public_version(name)}" for name in ("torch", "transformers")]
    return "\n".join([f"--extra-index-url {TORCH_CPU_INDEX}", *pins]) + "\n"


def render_space_card(settings: Settings, space_id: str) -> str:
    """Settings of the Space, as the Hub reads them, then a few words."""
    metadata = SpaceCardData(
        title=space_id.rpartition("/")[2],
        emoji="💬",
        colorFrom="yellow",
        colorTo="red",
        sdk="gradio",
        sdk_version=_public_version("gradio"),
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file=APP_FILE,
        license="mit",
        models=[settings.model],
        short_description="Ask a GPT-2, and see its reasoning and its answer",
    )
    link = f"[{settings.model}](https://huggingface.co/{settings.model})"
    code = (
        "It runs the code in that commit (`trust_remote_code`)."
        if settings.trust_remote_code
        else "It opens with the code of transformers, and runs none of the repository's."
    )
    return (
        f"---\n{metadata.to_yaml()}\n---\n\n# {space_id.rpartition('/')[2]}\n\n"
        f"A chat with {link}, a GPT-2 written from scratch (gpt2scratch), at commit `{settings.revision}`. {code}\n\n"
        f"It was made with `python -m hub_card.space {settings.model} --publish {space_id}`; the same command again "
        "shows the model as it is then.\n"
    )


def _public_version(name: str) -> str:
    """Without the build's own suffix, as in 2.13.0+cpu."""
    return version(name).partition("+")[0]
