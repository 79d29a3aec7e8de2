"""Saved folders: the model's code lies beside its configuration, and all files are equally readable."""

import os
import shutil
from pathlib import Path

from transformers import PreTrainedConfig
from transformers.dynamic_module_utils import get_relative_import_files


# transformers loads a class of a saved folder by its Auto class: from this file, with the files that it imports.
DOOR = Path(__file__).with_name("auto_classes.py")
AUTO_MAP = {
    "AutoConfig": "auto_classes.GPT2ScratchConfig",
    "AutoModel": "auto_classes.GPT2ScratchModel",
    "AutoModelForCausalLM": "auto_classes.GPT2ScratchForCausalLM",
    "AutoModelForQuestionAnswering": "auto_classes.GPT2ScratchForQuestionAnswering",
    "AutoModelForSequenceClassification": "auto_classes.GPT2ScratchForSequenceClassification",
    "AutoModelForTokenClassification": "auto_classes.GPT2ScratchForTokenClassification",
}


class ConfigWithCode(PreTrainedConfig):
    """Identical to `PreTrainedConfig`, except that saving it adds the model's code, so that the folder opens where this
    package is absent. Models and heads save their config through it.

    transformers' own way (`register_for_auto_class`) names the saved class only, while vLLM, SGLang and `AutoModel`
    look for others.
    """

    def to_dict(self) -> dict:
        return {**super().to_dict(), "auto_map": dict(AUTO_MAP)}

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        self.validate()  # before anything is written
        os.makedirs(save_directory, exist_ok=True)
        for file in (DOOR, *get_relative_import_files(DOOR)):
            shutil.copyfile(file, Path(save_directory, Path(file).name))
        super().save_pretrained(save_directory, **kwargs)


def share_weight_files(folder: str | os.PathLike) -> None:
    """Give weight files the mode of the `config.json` beside them, which follows the user's umask.

    The safetensors library writes its files for their owner alone (mode 600), so that colleagues, web servers and
    containers with another user could list a model on a shared disk, and not load it.
    """
    for weights in Path(folder).glob("*.safetensors"):
        shutil.copymode(Path(folder, "config.json"), weights)
