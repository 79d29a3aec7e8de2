"""A Space's files are the page as it is here, and say what it shows."""

import json

import yaml

from hub_card.space.model_choice import Settings
from hub_card.space.staging import PAGE, stage_space


SETTINGS = Settings("tiny", "you/tiny", revision="0" * 40, examples=["Wer schrieb „Emma“?"], context=64)


def test_the_page_is_staged_with_its_settings(tmp_path):
    space = stage_space(SETTINGS, tmp_path, "you/tiny-chat")["main"]
    files = {file.name for file in space.iterdir()}
    assert files == {"README.md", "settings.json", "index.html", "style.css", "chat.js", "worker.js"}
    assert all((space / file.name).read_bytes() == file.read_bytes() for file in PAGE.iterdir())
    settings = json.loads((space / "settings.json").read_text())
    assert settings["examples"] == SETTINGS.examples
    assert (settings["model"], settings["revision"], settings["context"]) == ("you/tiny", "0" * 40, 64)
    assert settings["library"].rpartition("@")[2].count(".") == 2  # one version, not the newest


def test_the_card_has_the_hubs_settings(tmp_path):
    text = (stage_space(SETTINGS, tmp_path, "you/tiny-chat")["main"] / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["sdk"] == "static"
    assert metadata["models"] == ["you/tiny"]
    assert len(metadata["short_description"]) <= 60
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink"}
    assert {metadata["colorFrom"], metadata["colorTo"]} <= colours
    assert metadata["license"] == "mit"
    assert "0" * 40 in text
