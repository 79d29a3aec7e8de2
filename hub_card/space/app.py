"""A Space's start: serves the chat page of the model that `settings.json`, beside this file, names."""

from pathlib import Path

from chat.page import serve
from chat.settings import read_settings


if __name__ == "__main__":
    serve(read_settings(Path(__file__).parent))
