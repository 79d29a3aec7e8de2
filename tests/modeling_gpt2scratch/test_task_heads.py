"""Heads for other tasks: outputs and losses of Hugging Face's GPT-2, and folders that go to a head and back."""

import pytest
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    GPT2ForQuestionAnswering,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
)

from modeling_gpt2scratch import (
    GPT2ScratchForQuestionAnswering,
    GPT2ScratchForSequenceClassification,
    GPT2ScratchForTokenClassification,
)
from modeling_gpt2scratch.hf_gpt2 import config_to_hf, weights_from_hf


# Our class, stock's, the Auto class, and the name of the head's layer in either.
SEQUENCE = (
    GPT2ScratchForSequenceClassification,
    GPT2ForSequenceClassification,
    AutoModelForSequenceClassification,
    {"score": "score"},
)
TOKEN = (
    GPT2ScratchForTokenClassification,
    GPT2ForTokenClassification,
    AutoModelForTokenClassification,
    {"classifier": "score"},
)
ANSWER = (
    GPT2ScratchForQuestionAnswering,
    GPT2ForQuestionAnswering,
    AutoModelForQuestionAnswering,
    {"qa_outputs": "qa_outputs"},
)
HEADS = pytest.mark.parametrize("head", [SEQUENCE, TOKEN, ANSWER], ids=["sequence", "token", "answer"])


@pytest.fixture
def label_config(tiny_config):
    tiny_config.num_labels = 5
    tiny_config.pad_token_id = 209
    return tiny_config


def twins_with(head, config, randomise):
    our_class, stock_class, _, head_names = head
    stock_config = config_to_hf(config)
    stock_config.num_labels, stock_config.pad_token_id = config.num_labels, config.pad_token_id
    stock = randomise(stock_class(stock_config)).eval()
    body, weights = {}, {}
    for name, tensor in stock.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if layer in head_names:
            weights[f"{head_names[layer]}.{kind}"] = tensor
        else:
            body[name] = tensor
    ours = our_class(config)
    ours.load_state_dict(weights | weights_from_hf(body))
    return stock, ours.eval()


def inputs_for(head, input_ids):
    """Rows of unequal length, padded on the right, with labels."""
    input_ids = input_ids.clone()
    mask = torch.ones_like(input_ids)
    input_ids[1, 12:], mask[1, 12:] = 209, 0
    labels = {
        SEQUENCE[0]: {"labels": torch.tensor([4, 0, 2])},
        TOKEN[0]: {"labels": (input_ids % 5).masked_fill(mask == 0, -100)},
        ANSWER[0]: {"start_positions": torch.tensor([1, 2, 3]), "end_positions": torch.tensor([4, 11, 19])},
    }[head[0]]
    return {"input_ids": input_ids, "attention_mask": mask, **labels}


@HEADS
def test_outputs_loss_and_gradients_equal_hugging_faces_gpt2s(head, label_config, randomise, input_ids):
    stock, ours = twins_with(head, label_config, randomise)
    inputs = inputs_for(head, input_ids)
    expected, found = stock(**inputs), ours(**inputs)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-6, rtol=0)
    shapes = {SEQUENCE[0]: (3, 5), TOKEN[0]: (3, 20, 5), ANSWER[0]: (3, 20)}
    names = ["start_logits", "end_logits"] if head is ANSWER else ["logits"]
    for name in names:
        assert found[name].shape == shapes[head[0]]
        torch.testing.assert_close(found[name], expected[name], atol=3e-6, rtol=1e-5)
    expected.loss.backward()
    found.loss.backward()
    torch.testing.assert_close(
        ours.transformer.token_embedding.weight.grad, stock.transformer.wte.weight.grad, atol=1e-6, rtol=1e-4
    )


@HEADS
def test_a_language_models_folder_gets_a_new_head(head, tiny_model, input_ids, tmp_path):
    """The fine-tuning path: the body's weights come along, the head starts fresh, and the result opens again."""
    _, _, auto_class, _ = head
    tiny_model.save_pretrained(tmp_path / "language_model")
    settings = {} if head is ANSWER else {"num_labels": 3}
    model = auto_class.from_pretrained(tmp_path / "language_model", **settings).eval()
    assert type(model) is head[0]
    body = model.transformer(input_ids).last_hidden_state
    assert torch.equal(body, tiny_model.transformer(input_ids).last_hidden_state)
    model.save_pretrained(tmp_path / "fine_tuned")
    again, report = auto_class.from_pretrained(tmp_path / "fine_tuned", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    found, expected = again.eval()(input_ids[:1])[0], model(input_ids[:1])[0]
    assert torch.equal(found, expected)


def test_several_texts_need_a_padding_token(tiny_config, input_ids):
    model = GPT2ScratchForSequenceClassification(tiny_config)
    with pytest.raises(ValueError, match="padding token"):
        model(input_ids)
