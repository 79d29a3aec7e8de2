"""`nnsight_trace.py FOLDER PROMPT FILE` saves what nnsight sees in a model. It runs alone: nnsight gives all objects
a method `save`, which breaks onnx, MLX cannot be imported beside it, and it reads the source of what it traces."""

import sys

import torch
from nnsight import TransformersModel
from transformers import AutoTokenizer


folder, prompt, file = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = TransformersModel(folder, task="text-generation", tokenizer=tokenizer, trust_remote_code=True)
with torch.no_grad():
    with model.trace(prompt):
        hidden = model.transformer.blocks[0].output.save()
        logits = model.lm_head.output.save()
    with model.trace(prompt):
        model.transformer.blocks[1].attention.out_proj.output[:] = 0
        changed = model.lm_head.output.save()
torch.save({"hidden": hidden, "logits": logits, "changed": changed}, file)
