"""Heads for other tasks than language modelling: one label a text, one a token, or the span that answers a question.

Losses and poolings are transformers' generic ones; only the construction is ours, since the generic one asks
`AutoModel` for the body, which does not know a model whose code was loaded from a folder.
"""

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import (
    GenericForQuestionAnswering,
    GenericForSequenceClassification,
    GenericForTokenClassification,
)

from .config import GPT2ScratchConfig
from .gpt_model import GPT2ScratchModel, GPT2ScratchPreTrainedModel


class GPT2ScratchForSequenceClassification(GenericForSequenceClassification, GPT2ScratchPreTrainedModel):
    """`config.num_labels` scores a text, (B, num_labels), read off its last token.

    A batch of several texts needs `config.pad_token_id`, which tells where each of them ends.
    """

    base_model_prefix = "transformer"

    def __init__(self, config: GPT2ScratchConfig):
        PreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.transformer = GPT2ScratchModel(config)
        self.score = nn.Linear(config.n_embd, config.num_labels, bias=False)
        self.post_init()


class GPT2ScratchForTokenClassification(GenericForTokenClassification, GPT2ScratchPreTrainedModel):
    """`config.num_labels` scores a token, (B, T, num_labels), each from the tokens up to it."""

    base_model_prefix = "transformer"

    def __init__(self, config: GPT2ScratchConfig):
        PreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.transformer = GPT2ScratchModel(config)
        self.dropout = nn.Dropout(config.resid_pdrop)
        self.score = nn.Linear(config.n_embd, config.num_labels)
        self.post_init()


class GPT2ScratchForQuestionAnswering(GenericForQuestionAnswering, GPT2ScratchPreTrainedModel):
    """Two scores a token, start and end of the answer's span, (B, T) each."""

    base_model_prefix = "transformer"

    def __init__(self, config: GPT2ScratchConfig):
        PreTrainedModel.__init__(self, config)
        self.transformer = GPT2ScratchModel(config)
        self.qa_outputs = nn.Linear(config.n_embd, 2)
        self.post_init()

    # The generic head looks for the embedding under another name.
    get_input_embeddings = PreTrainedModel.get_input_embeddings
    set_input_embeddings = PreTrainedModel.set_input_embeddings
