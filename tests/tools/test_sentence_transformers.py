"""sentence-transformers: the mean of the last hidden states of a text, from the folder and from the export."""

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import AutoModel

from tests.tools.conftest import PROMPTS


# Without the first, a text is wrapped in a chat; without the second, texts of different lengths are refused.
TOKENIZER = {"chat_template": None, "pad_token": "<|endoftext|>"}


@pytest.mark.parametrize("layout", ["custom_folder", "exported_folder"])
def test_the_mean_of_each_text(layout, request, tokenizer):
    folder = str(request.getfixturevalue(layout))
    transformer = Transformer(folder, processor_kwargs=TOKENIZER)
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    found = SentenceTransformer(modules=[transformer, pooling], device="cpu").encode(PROMPTS, convert_to_tensor=True)
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        hidden = [model(**tokenizer(prompt, return_tensors="pt")).last_hidden_state[0] for prompt in PROMPTS]
    torch.testing.assert_close(found, torch.stack([states.mean(0) for states in hidden]), atol=1e-5, rtol=0)
