"""What the page shows: one model, and a few questions to try. In a Space it lies beside `app.py` as `settings.json`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class Settings:
    """
    Args:
        title: the page's heading.
        model: a folder, or an id on the Hub.
        revision: the commit of a model on the Hub; `None` takes its branch `main` as it is now.
        trust_remote_code: run the code that lies beside the weights, at that same commit.
        context: tokens that question and reply may take together; `None` takes all that the model has positions for.
            Positions beyond those of its training are as they were drawn.
        examples: questions to try.
        temperature: of sampling, at first.
        remember: whether a new question comes with those before it, until the visitor says otherwise. Sensible for a
            model that was trained on conversations; a pre-trained one has only ever seen single questions.
    """

    title: str
    model: str
    revision: str | None = None
    trust_remote_code: bool = False
    context: int | None = None
    examples: list[str] = field(default_factory=list)
    temperature: float = 0.7
    remember: bool = False

    def __post_init__(self):
        if self.trust_remote_code and self.revision is None:
            raise ValueError(f"Code of {self.model} is trusted at a given commit only: set revision.")


def write_settings(settings: Settings, folder: Path) -> None:
    text = json.dumps(asdict(settings), indent=2, ensure_ascii=False)
    (folder / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")


def read_settings(folder: Path) -> Settings:
    return Settings(**json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8")))
