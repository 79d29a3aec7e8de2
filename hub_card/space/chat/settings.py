"""The page's settings: one model, and a few questions to try. A Space has them beside `app.py`, in `settings.json`."""

from dataclasses import dataclass, field


SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class Settings:
    title: str
    model: str  # a folder, or an id on the Hub
    revision: str | None = None  # the commit of a model on the Hub
    trust_remote_code: bool = False  # run the code that lies beside the weights, at that same commit
    # Tokens that question and reply may take together; `None` takes all positions of the model. Positions beyond the
    # length of the training sequences are untrained.
    context: int | None = None
    examples: list[str] = field(default_factory=list)  # questions to try
    temperature: float = 0.7  # of sampling, at first
    # A new question comes with the earlier ones, unless the visitor decides otherwise. This helps a model that was
    # trained on conversations; a pre-trained one has seen single questions only.
    remember: bool = False

    def __post_init__(self):
        if self.trust_remote_code and self.revision is None:
            raise ValueError(f"Code of {self.model} is trusted at a given commit only: set revision.")
