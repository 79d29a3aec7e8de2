"""The small models that transformers' tests run on: ours, and Hugging Face's GPT-2 beside it."""

import torch
from transformers import (
    GPT2Config,
    GPT2ForQuestionAnswering,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
    GPT2LMHeadModel,
    GPT2Model,
)

from modeling_gpt2scratch import (
    GPT2ScratchConfig,
    GPT2ScratchForCausalLM,
    GPT2ScratchForQuestionAnswering,
    GPT2ScratchForSequenceClassification,
    GPT2ScratchForTokenClassification,
    GPT2ScratchModel,
)


class ModelTester:
    """Sizes and inputs, under the names that transformers' mixins ask for."""

    batch_size = 3
    seq_length = 7
    vocab_size = 99  # odd, so that it does not divide among processes
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    is_training = True

    config_class: type
    base_model_class: type
    causal_lm_class: type
    sequence_classification_class: type
    token_classification_class: type
    question_answering_class: type

    def all_model_classes(self):
        return (
            self.base_model_class,
            self.causal_lm_class,
            self.sequence_classification_class,
            self.token_classification_class,
            self.question_answering_class,
        )

    def get_config(self):
        return self.config_class(
            vocab_size=self.vocab_size,
            n_positions=512,
            n_embd=self.hidden_size,
            n_layer=self.num_hidden_layers,
            n_head=self.num_attention_heads,
            # The tests compare two runs of one model, some of them in training mode.
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            resid_pdrop=0.0,
            bos_token_id=98,
            eos_token_id=98,
            pad_token_id=97,
        )

    def prepare_config_and_inputs_for_common(self):
        input_ids = torch.randint(97, (self.batch_size, self.seq_length))
        return self.get_config(), {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


class OurTester(ModelTester):
    config_class = GPT2ScratchConfig
    base_model_class = GPT2ScratchModel
    causal_lm_class = GPT2ScratchForCausalLM
    sequence_classification_class = GPT2ScratchForSequenceClassification
    token_classification_class = GPT2ScratchForTokenClassification
    question_answering_class = GPT2ScratchForQuestionAnswering


class StockTester(ModelTester):
    config_class = GPT2Config
    base_model_class = GPT2Model
    causal_lm_class = GPT2LMHeadModel
    sequence_classification_class = GPT2ForSequenceClassification
    token_classification_class = GPT2ForTokenClassification
    question_answering_class = GPT2ForQuestionAnswering
