"""The files of a Space: the chat page as it is here, the model that it shows, and the versions that it needs."""

import json
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from shutil import copyfile

from huggingface_hub import SpaceCardData

from hub_card.space.chat.settings import SETTINGS_FILE, Settings
from hub_card.upload import CARD_FILE, MAIN_BRANCH
from modeling_gpt2scratch import loading


APP_FILE = "app.py"
LOADER_FILE = "loading.py"
# Plain builds of torch come with gigabytes for GPUs; this index has those for CPUs.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def stage_space(settings: Settings, place: Path, space_id: str) -> dict[str, Path]:
    """Write the Space's files into `place`; returns the folder of its one branch."""
    here, folder = Path(__file__).parent, place / "space"
    (folder / "chat").mkdir(parents=True)
    for file in [here / APP_FILE, *(here / "chat").glob("*.py")]:
        copyfile(file, folder / file.relative_to(here))
    # The loader lies beside the page there, where this package is not.
    copyfile(loading.__file__, folder / "chat" / LOADER_FILE)
    writer = folder / "chat" / "writer.py"
    writer.write_text(writer.read_text(encoding="utf-8").replace("modeling_gpt2scratch.", "."), encoding="utf-8")
    texts = {
        SETTINGS_FILE: json.dumps(asdict(settings), indent=2, ensure_ascii=False) + "\n",
        # The versions that are installed here, which the check runs; Gradio's is in the card.
        "requirements.txt": f"--extra-index-url {TORCH_CPU_INDEX}\n"
        f"torch=={_public_version('torch')}\ntransformers=={_public_version('transformers')}\n",
        CARD_FILE: render_space_card(settings, space_id),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return {MAIN_BRANCH: folder}


def render_space_card(settings: Settings, space_id: str) -> str:
    """Settings of the Space, as the Hub reads them, then a few words."""
    name = space_id.rpartition("/")[2]
    metadata = SpaceCardData(
        title=name,
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
    code = (
        "It runs the code in that commit (`trust_remote_code`)."
        if settings.trust_remote_code
        else "It opens with the code of transformers, and runs none of the repository's."
    )
    return f"""---
{metadata.to_yaml()}
---

# {name}

A chat with [{settings.model}](https://huggingface.co/{settings.model}), a GPT-2 written from scratch \
(gpt2scratch), at commit `{settings.revision}`. {code}

It was made with `python -m hub_card.space {settings.model} --publish {space_id}`; the same command again shows the \
model as it is then.
"""


def _public_version(name: str) -> str:
    """Without the build's own suffix, as in 2.13.0+cpu."""
    return version(name).partition("+")[0]
