"""The files of a Space: the page as it is here, and the model that it shows."""

import json
from dataclasses import asdict
from pathlib import Path
from shutil import copytree

from huggingface_hub import SpaceCardData

from hub_card.space.model_choice import Settings
from hub_card.upload import CARD_FILE, MAIN_BRANCH


PAGE = Path(__file__).parent / "page"
SETTINGS_FILE = "settings.json"
LIBRARY = "@huggingface/transformers@4.3.2"  # transformers.js
PLACES = {"host": "https://huggingface.co/", "cdn": "https://cdn.jsdelivr.net/npm/", "library": LIBRARY}


def stage_space(settings: Settings, place: Path, space_id: str) -> dict[str, Path]:
    """Write the Space's files into `place`; returns the folder of its one branch."""
    folder = copytree(PAGE, place / "space")
    content = json.dumps({**asdict(settings), **PLACES}, indent=2, ensure_ascii=False)
    (folder / SETTINGS_FILE).write_text(f"{content}\n", encoding="utf-8")
    (folder / CARD_FILE).write_text(render_space_card(settings, space_id), encoding="utf-8")
    return {MAIN_BRANCH: folder}


def render_space_card(settings: Settings, space_id: str) -> str:
    """Settings of the Space, as the Hub reads them, then a few words."""
    name = space_id.rpartition("/")[2]
    metadata = SpaceCardData(
        title=name,
        emoji="💬",
        colorFrom="yellow",
        colorTo="red",
        sdk="static",
        license="mit",
        models=[settings.model],
        short_description="Ask a GPT-2, and see its reasoning and its answer",
    )
    return f"""---
{metadata.to_yaml()}
---

# {name}

A chat with [{settings.model}](https://huggingface.co/{settings.model}), a GPT-2 written from scratch \
(gpt2scratch), at commit `{settings.revision}` of its branch `gpt2`. The model runs in the visitor's browser, by \
[transformers.js](https://huggingface.co/docs/transformers.js), and what is asked stays there.

It was made with `python -m hub_card.space {settings.model} --publish {space_id}`; the same command again shows the \
model as it is then.
"""
