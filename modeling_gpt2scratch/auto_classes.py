"""The door through which transformers' Auto classes come to the code in a saved folder: every public class."""

# ruff: noqa: F401
from .causal_lm import GPT2ScratchForCausalLM
from .config import GPT2ScratchConfig
from .gpt_model import GPT2ScratchModel
from .task_heads import (
    GPT2ScratchForQuestionAnswering,
    GPT2ScratchForSequenceClassification,
    GPT2ScratchForTokenClassification,
)
