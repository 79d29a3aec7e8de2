import json
import math
import shutil

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from modeling_gpt2scratch import TOKENIZER_FOLDER
from train.data.__main__ import main as prepare
from train.data.from_settings import to_preparations
from train.data.rows.synth import question_to_ids
from train.data.sequences.prepare import load_prepared
from train.pretrain import main
from train.settings.recipe import parse_recipe
from train.tokenizer.opening import has_same_ids, open_tokenizer


def test_gpt2_is_the_default_and_what_has_its_ids_is_it(tmp_path):
    own = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
    own.chat_template = None
    own.save_pretrained(tmp_path / "copy")
    for tokenizer in (open_tokenizer(None), open_tokenizer(None, "./nowhere"), open_tokenizer(str(tmp_path / "copy"))):
        assert has_same_ids(tokenizer, own)
        assert tokenizer.chat_template


def test_a_question_has_the_ids_of_training(own_tokenizer):
    tokenizer = open_tokenizer(str(own_tokenizer))
    for answer in ("A: 12", "Reasoning:\nCounting on from 11 gives 12."):
        text = f"Q: What follows 11?\n\n{answer}"
        prompt = question_to_ids("Q: What follows 11?", tokenizer)
        assert tokenizer(text)["input_ids"][: len(prompt)] == prompt
        assert tokenizer.decode(prompt) == "Q: What follows 11?\n\n"


def change(folder, name, **values):
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("tokenizer_config.json", {"eos_token": None}, "has no end-of-text token"),
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}, "does not give a text back"),
        (None, {}, "there is no such folder"),
    ],
)
def test_a_tokenizer_that_cannot_be_used_is_refused_before_any_work(
    tiny_recipe, own_tokenizer, tmp_path, caplog, name, values, message
):
    folder = tmp_path / "own"
    if name is not None:
        shutil.copytree(own_tokenizer, folder)
        change(folder, name, **values)
    words = ["--config", str(tiny_recipe), "--tokenizer", str(folder)]
    assert (main(words), prepare(words)) == (2, 2)
    assert caplog.text.count(message) == 2
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, own_tokenizer):
    """A run with a tokenizer of its own, padded to a multiple of 64, and the words that started it."""
    from tests.train.conftest import TINY_SETTINGS, make_row

    folder = tmp_path_factory.mktemp("own")
    (folder / "rows.jsonl").write_text("".join(json.dumps(make_row(number)) + "\n" for number in range(200)))
    places = {"dataset": folder / "rows.jsonl", "data_cache_dir": folder / "cache", "output_dir": folder / "run"}
    settings = {
        **TINY_SETTINGS,
        **{name: str(place) for name, place in places.items()},
        "tokenizer": str(own_tokenizer),
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**settings, "pad_vocab_to_multiple_of": 64}))
    words = ["--config", str(folder / "recipe.yaml")]
    assert main(words) == 0
    return folder / "run", words


def test_a_run_takes_its_tokenizer_along(finished, own_tokenizer):
    run, _ = finished
    tokenizer = AutoTokenizer.from_pretrained(own_tokenizer)
    for folder in (run, run / "checkpoint-12"):
        again, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
        assert has_same_ids(again, tokenizer)
        assert again.chat_template == tokenizer.chat_template
        assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id == 0


def test_padded_ids_are_in_checkpoints_only_and_never_generated(finished, own_tokenizer):
    run, _ = finished
    ids = len(AutoTokenizer.from_pretrained(own_tokenizer))
    assert AutoModelForCausalLM.from_pretrained(run).config.vocab_size == ids
    padded = AutoModelForCausalLM.from_pretrained(run / "checkpoint-12")
    assert padded.config.vocab_size == 64 * (ids // 64 + 1)
    embedding = padded.get_input_embeddings().weight.data
    embedding[ids:] = 100 * embedding[5]  # likelier than any other, one way or the other
    embedding[ids + 1 :] *= -1
    written = padded.generate(do_sample=True, max_new_tokens=30, num_return_sequences=8)
    assert written.max() < ids


def test_an_evaluation_logs_bits_per_byte(finished, own_tokenizer):
    run, words = finished
    recipe, tokenizer = parse_recipe(words), open_tokenizer(str(own_tokenizer))
    sequences = load_prepared(to_preparations(recipe.data, tokenizer)[0]).validation.first(
        recipe.data.max_eval_sequences
    )
    scored = [sequence["input_ids"][1:].tolist() for sequence in sequences]
    text_bytes = sum(len(tokenizer.decode(ids, skip_special_tokens=True).encode()) for ids in scored)
    figures = json.loads((run / "results.json").read_text())["evaluation"]
    expected = figures["eval_loss"] / math.log(2) * sum(map(len, scored)) / text_bytes
    assert figures["eval_bits_per_byte"] == pytest.approx(expected, rel=1e-4)


def test_another_tokenizer_is_refused(finished, caplog, tmp_path):
    run, words = finished
    other = str(TOKENIZER_FOLDER)
    (run / "model.safetensors").rename(tmp_path / "model.safetensors")  # of a run that was stopped
    (run / "results.json").unlink()
    resumed = ["--resume_from_checkpoint", "true", "--max_steps", "14", "--resume_with_changes", "max_steps"]
    assert main([*words, "--tokenizer", other, *resumed]) == 2
    (tmp_path / "model.safetensors").rename(run / "model.safetensors")
    elsewhere = [*words, "--output_dir", str(tmp_path / "new"), "--init_from", str(run)]
    assert main([*elsewhere, "--tokenizer", other]) == 2
    assert "has another tokenizer than this run's" in caplog.text
    assert "has a vocabulary of" in caplog.text
