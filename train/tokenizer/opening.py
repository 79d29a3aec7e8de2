"""Opens the tokenizer of a run: the one that it names, that of the model that it starts from, or GPT-2's."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from modeling_gpt2scratch import TOKENIZER_FOLDER
from modeling_gpt2scratch.loading import has_tokenizer, load_own_tokenizer
from train.data.files.sources import SAMPLE, SAMPLE_FOLDER


# One kind of text after the other.
PROBE = " The 12 cats'll cost $3.50,\tn'est-ce pas?\n\n  Ünïcode: 日本 🙂<|endoftext|>\n"
# What training marks the end of a conversation with, while it is text (see `train.post_training.data.encoding`).
MARK = "\0"


def open_tokenizer(name: str | None, init_from: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer `name`, a folder or a Hub id; where it is `None`, that of the model `init_from`; else GPT-2's.

    It has the chat template of this project, which is the form that rows become text in.

    Raises:
        ValueError, OSError: there is none of that name, or a run cannot use it.
    """
    own = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
    if name is None:
        try:
            source = init_from if init_from is not None and has_tokenizer(init_from) else None
            tokenizer = own if source is None else load_own_tokenizer(source)
        except (OSError, ValueError):  # of a model that is refused where it is loaded
            return own
    else:
        source = name
        tokenizer = _load_named(name)
    if source is None or has_same_ids(tokenizer, own):
        return own
    _check(source, tokenizer)
    tokenizer.chat_template = own.chat_template
    return tokenizer


def _load_named(name: str) -> PreTrainedTokenizerBase:
    folder = SAMPLE_FOLDER / "tokenizer" if name == SAMPLE else Path(name).expanduser()
    if not folder.exists() and (name.count("/") > 1 or name.startswith((".", "/", "~", "runs/")) or "/" not in name):
        raise ValueError(f"--tokenizer {name}: there is no such folder. `python -m train.tokenizer` makes one.")
    if folder.exists() and not (folder / "tokenizer_config.json").is_file():
        raise ValueError(f"--tokenizer {name} holds no tokenizer (tokenizer.json and tokenizer_config.json).")
    try:
        return load_own_tokenizer(str(folder) if folder.exists() else name)
    except (OSError, ValueError) as error:
        raise type(error)(f"--tokenizer {error}") from error


def _check(source: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that a run cannot use, by a `ValueError`."""
    problem = None
    if not tokenizer.is_fast:
        problem = "it has no fast version (tokenizer.json)"
    elif tokenizer.eos_token_id is None:
        problem = "it has no end-of-text token (eos_token), with which documents end"
    elif tokenizer("")["input_ids"]:
        problem = "it adds special tokens to each text (add_bos_token and the like): switch that off"
    elif len(marks := tokenizer.tokenize(f"a{MARK}b")) < 3 or tokenizer.tokenize(MARK)[0] not in marks:
        problem = "it has no token of its own for the character 0, which marks ends in conversations"
    else:
        ids = tokenizer(PROBE, split_special_tokens=True)["input_ids"]
        back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        if back != PROBE:
            problem = f"it does not give a text back: {PROBE!r} becomes {back!r}"
    if problem is not None:
        raise ValueError(f"The tokenizer of {source} cannot be used: {problem}. A byte-level one can.")


def has_same_ids(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether both make the same ids of texts, and end them with the same one."""
    return (
        one.get_vocab() == other.get_vocab()
        and one.eos_token_id == other.eos_token_id
        and one(PROBE)["input_ids"] == other(PROBE)["input_ids"]
    )


def check_same_ids(source: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a model, by a `ValueError`, that has a tokenizer beside it with other ids than the run's."""
    if has_tokenizer(source) and not has_same_ids(load_own_tokenizer(source), tokenizer):
        raise ValueError(
            f"{source} has another tokenizer than this run's: its weights would read other tokens. Leave out "
            "--tokenizer, or name the model's own."
        )
