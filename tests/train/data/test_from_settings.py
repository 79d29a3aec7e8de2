import dataclasses

import pytest

from train.data.files.sources import SAMPLE_FOLDER
from train.data.from_settings import to_preparations
from train.data.rows.row_filter import RowFilter
from train.data.sequences.preparation import Limit, SequenceSettings
from train.settings.arguments import DataArguments


EVALUATION_SET = str(SAMPLE_FOLDER / "train.parquet")
# These say how the work is done or shown, and not what comes out.
HARMLESS = {
    "dataset_num_proc": 7,
    "max_eval_sequences": 7,
    "streaming": True,
    "shuffle_buffer": 7,
    "dataset_weights": [1.0],
}
OF_THE_HUB = {"dataset_split": ["test"], "dataset_config": ["en"], "validation_split": "test"}  # a file has none
OF_TEXT = {"document_separator": "x"}
OTHER_VALUES = {
    "text_column": "query",
    "languages": ["en"],
    "exercises": ["memorization"],
    "require_reasoning": True,
    "min_row_tokens": 3,
    "max_row_tokens": 1000,
    "exercise_weights": ["memorization=2"],
    "language_weights": ["en=2"],
    "decontaminate": [EVALUATION_SET],
    "max_samples": 60,
    "max_tokens": 2000,
    "packing": "best_fit",
    "broken_shards": "skip",
    "sequence_length": 8,
    "validation_fraction": 0.3,
    "split_seed": 1,
    "validation_dataset": "sample",
    "drop_duplicates": True,
}


@pytest.fixture
def folder(rows_file, tokenizer, tmp_path):
    def make(**changes):
        settings = {"dataset": [str(rows_file)], "data_cache_dir": str(tmp_path)}
        return to_preparations(DataArguments(**{**settings, **changes}), tokenizer)[0].folder

    return make


def test_every_setting_that_is_not_known_to_be_harmless_is_prepared_anew(folder, tmp_path):
    """So that a setting which is added later is not forgotten; as for the dataset, its files and not its name count."""
    names = {field.name for field in dataclasses.fields(DataArguments)}
    kept = {*HARMLESS, *OF_THE_HUB, *OF_TEXT, "dataset", "dataset_revision", "data_cache_dir"}
    assert names - kept == OTHER_VALUES.keys()
    folders = [folder(**{name: value}) for name, value in OTHER_VALUES.items()]
    assert len({folder(), *folders}) == len(folders) + 1
    assert folder(**HARMLESS) == folder()
    (tmp_path / "a.txt").write_text("".join(f"ax {number} " for number in range(200)))
    text = {"dataset": [str(tmp_path / "a.txt")]}
    assert folder(**text, **OF_TEXT) != folder(**text)


def test_settings_become_values(rows_file, tokenizer, tmp_path):
    arguments = DataArguments(
        dataset=[str(rows_file)],
        languages=["en", "fr"],
        exercises=["mcq"],
        require_reasoning=True,
        min_row_tokens=3,
        max_row_tokens=9,
        exercise_weights=["mcq=2"],
        language_weights=["fr=0.5"],
        validation_fraction=0.25,
        split_seed=4,
        decontaminate=[EVALUATION_SET],
        sequence_length=8,
        packing="best_fit",
        broken_shards="skip",
        data_cache_dir=str(tmp_path),
        max_samples=7,
    )
    preparation = to_preparations(arguments, tokenizer)[0]
    assert preparation.row_filter == RowFilter(
        *(["en", "fr"], ["mcq"], True, 3, 9, {"mcq": 2}, {"fr": 0.5}, 0.25, 4, (EVALUATION_SET,)),
        schema=preparation.row_filter.schema,
    )
    assert preparation.row_filter.schema.columns.forms == (("query", "synthetic_answer", "language", "exercise"),)
    assert preparation.settings == SequenceSettings(8, "best_fit", skip_broken=True)
    assert preparation.limit == Limit(rows=7)
    assert preparation.folder.parent == tmp_path
    assert to_preparations(DataArguments(), tokenizer)[0].row_filter == RowFilter()
    with pytest.raises(ValueError, match=r"--language_weights fr"):
        to_preparations(DataArguments(language_weights=["fr"]), tokenizer)
