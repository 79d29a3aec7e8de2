"""OpenVINO: it opens what `python -m hub_card.export` writes, and continues prompts alike."""

import openvino

from hub_card.export import __main__ as command
from hub_card.export.agreement import count_same, open_openvino


def test_it_continues_prompts_alike(custom_folder, learned, tokenizer, answers, tmp_path, caplog):
    """The command compares on questions that the model does not know; here are those that it does."""
    words = ["--format", "openvino", "--output_dir", str(tmp_path / "out"), "--max_questions", "8"]
    caplog.set_level("INFO")
    assert command.main([str(custom_folder), *words]) == 0
    assert "8 of 8" in caplog.text
    file = tmp_path / "out" / "openvino_model.xml"
    assert {port.get_any_name() for port in openvino.Core().read_model(file).inputs} >= {"input_ids", "attention_mask"}
    texts = [(tokenizer(prompt)["input_ids"], tokenizer(answer)["input_ids"]) for prompt, answer in answers.items()]
    assert count_same(open_openvino(file), learned.config, texts)[0] == len(texts)
