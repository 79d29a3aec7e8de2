"""Opens a saved folder, or a model on the Hub, as a whole: all weights of the model and no others, and the tokenizer
that belongs to them. transformers fills what is missing with random numbers, and only logs it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file


TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer_config.json")
NAMES_SHOWN = 3


def load_whole_model(
    source: str | os.PathLike, model_types: tuple[str, ...] | None = None, **options
) -> PreTrainedModel:
    """`AutoModelForCausalLM.from_pretrained(source, **options)`, in evaluation mode.

    Raises:
        ValueError: a tensor is missing, has no place in the model, or has another shape; the files are damaged; it is
            an adapter; or its `model_type` is not among `model_types`. The message is one line.
        OSError: there is no such model, or a file is missing.
    """
    refuse_adapter(source)
    with _errors_in_one_line(source):
        found = PreTrainedConfig.get_config_dict(source, **options)[0].get("model_type")
        if model_types is not None and found not in model_types:
            raise ValueError(f"its model_type is {found}, and only {' and '.join(model_types)} can be used here.")
        with _without_report():
            model, report = AutoModelForCausalLM.from_pretrained(
                source, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
        damaged = [name for name, weight in model.state_dict().items() if not weight.float().isfinite().all()]
        _check_report(**report, damaged=damaged)
    return model


def load_own_tokenizer(source: str | os.PathLike, vocab_size: int | None = None, **options) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model; a `ValueError` where it has ids that a model of `vocab_size` has not."""
    with _errors_in_one_line(source):
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        if vocab_size is not None and count_ids(tokenizer) > vocab_size:
            raise ValueError(
                f"its tokenizer has ids up to {count_ids(tokenizer) - 1:,}, and its model a vocabulary of "
                f"{vocab_size:,}: they do not belong together. Copy the tokenizer that the model was trained with."
            )
    return tokenizer


def count_ids(tokenizer: PreTrainedTokenizerBase) -> int:
    """The vocabulary that a model needs: the largest id, and one."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def drop_padding(model: PreTrainedModel, ids: int) -> None:
    """Take out of a model the ids that a tokenizer of so many does not have, which only fill the embedding matrix up:
    so no tool can write them."""
    if model.config.vocab_size > ids:
        model.resize_token_embeddings(ids)
        suppressed = model.generation_config.suppress_tokens or []
        model.generation_config.suppress_tokens = [token for token in suppressed if token < ids] or None


def has_tokenizer(source: str | os.PathLike) -> bool:
    with _errors_in_one_line(source):
        return any(
            cached_file(source, name, _raise_exceptions_for_missing_entries=False) is not None
            for name in TOKENIZER_FILES
        )


def refuse_adapter(source: str | os.PathLike) -> None:
    """A `ValueError` where a folder holds an adapter: transformers would open another model, and add it."""
    if Path(source, "adapter_config.json").is_file():
        raise ValueError(
            f"{source} holds an adapter (adapter_config.json) and no whole model: name the run's own folder, which "
            "has the merged model once the run has ended (--resume_from_checkpoint true ends it)."
        )


def _check_report(
    missing_keys: set, unexpected_keys: set, mismatched_keys: set, error_msgs: list[str], damaged: list[str]
) -> None:
    shapes = [f"{name} {tuple(found)} in place of {tuple(wanted)}" for name, found, wanted in mismatched_keys]
    problems = (
        ("its files lack", missing_keys),
        ("its files hold what the model has no place for:", unexpected_keys),
        ("its tensors have other shapes than its config says:", shapes),
        ("its weights cannot be read:", error_msgs),
        ("its weights are damaged, not finite numbers in", damaged),
    )
    told = [f"{problem} {_shorten(names)}" for problem, names in problems if names]
    if told:
        raise ValueError(f"{'; '.join(told)}. Copy the model again, config and weights together.")


def _shorten(names: set | list) -> str:
    first = ", ".join(sorted(names)[:NAMES_SHOWN])
    return first if len(names) <= NAMES_SHOWN else f"{first} and {len(names) - NAMES_SHOWN} more"


@contextmanager
def _without_report() -> Iterator[None]:
    """transformers' table of missing tensors is not logged: the error names them."""
    logger = logging.getLogger("transformers.modeling_utils")

    def passes(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)


@contextmanager
def _errors_in_one_line(source: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise ValueError(f"{source}: its weights are damaged ({error}): copy them again.") from error
    except Exception as error:  # over damaged files, libraries raise errors of every kind
        told = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, AttributeError | IndexError | KeyError | TypeError):
            told = f"its files cannot be read ({type(error).__name__}: {told}): copy them again."
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{source}: {told}") from error
