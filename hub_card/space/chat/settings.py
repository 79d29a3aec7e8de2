"""The page's settings: one model, and a few questions to try. A Space has them beside `app.py`, in `settings.json`."""

from dataclasses import dataclass, field


SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class Settings:
    """
    Args:
        title: the page's heading.
        model: a folder, or an id on the Hub.
        revision: the commit of a model on the Hub; `None` for a folder.
        trust_remote_code: run the code that lies beside the weights, at that same commit.
        context: tokens that question and reply may take together; `None` takes all positions of the model. Positions
            beyond the length of the training sequences are untrained.
        examples: questions to try.
        temperature: of sampling, at first.
        remember: whether a new question comes with the earlier ones, unless the visitor decides otherwise. This helps
            a model that was trained on conversations; a pre-trained one has seen single questions only.
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
