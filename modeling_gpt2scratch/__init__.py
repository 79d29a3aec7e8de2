"""GPT-2, written from scratch and compatible with transformers.

Importing this package registers its classes, so that `AutoModelForCausalLM.from_pretrained(folder)` opens a trained
folder without `trust_remote_code`. That is its only effect.
"""

from pathlib import Path

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .causal_lm import GPT2ScratchForCausalLM
from .config import GPT2ScratchConfig
from .gpt_model import GPT2ScratchModel, GPT2ScratchPreTrainedModel
from .hf_gpt2 import from_hf_gpt2, save_as_hf_gpt2, to_hf_gpt2
from .task_heads import (
    GPT2ScratchForQuestionAnswering,
    GPT2ScratchForSequenceClassification,
    GPT2ScratchForTokenClassification,
)


AutoConfig.register(GPT2ScratchConfig.model_type, GPT2ScratchConfig)
AutoModel.register(GPT2ScratchConfig, GPT2ScratchModel)
AutoModelForCausalLM.register(GPT2ScratchConfig, GPT2ScratchForCausalLM)
AutoModelForQuestionAnswering.register(GPT2ScratchConfig, GPT2ScratchForQuestionAnswering)
AutoModelForSequenceClassification.register(GPT2ScratchConfig, GPT2ScratchForSequenceClassification)
AutoModelForTokenClassification.register(GPT2ScratchConfig, GPT2ScratchForTokenClassification)

# GPT-2's tokenizer, for `AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)`.
TOKENIZER_FOLDER = Path(__file__).parent / "tokenizer"

__all__ = [
    "TOKENIZER_FOLDER",
    "GPT2ScratchConfig",
    "GPT2ScratchForCausalLM",
    "GPT2ScratchForQuestionAnswering",
    "GPT2ScratchForSequenceClassification",
    "GPT2ScratchForTokenClassification",
    "GPT2ScratchModel",
    "GPT2ScratchPreTrainedModel",
    "from_hf_gpt2",
    "save_as_hf_gpt2",
    "to_hf_gpt2",
]
