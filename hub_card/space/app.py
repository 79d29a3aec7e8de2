"""The start of a Space: shows the chat page of the model that `settings.json`, beside this file, names."""

import json
from pathlib import Path

from chat.page import LAUNCH_OPTIONS, build_page
from chat.settings import SETTINGS_FILE, Settings


page = build_page(Settings(**json.loads((Path(__file__).parent / SETTINGS_FILE).read_text(encoding="utf-8"))))

if __name__ == "__main__":
    page.launch(**LAUNCH_OPTIONS)
