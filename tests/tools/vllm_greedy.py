"""Run by vLLM's own Python: `vllm_greedy.py FOLDER trust|plain PROMPTS TEXTS` prints what it continues prompts with
and the ids of texts; both are lists in JSON."""

import json
import sys

from vllm import LLM, SamplingParams


if __name__ == "__main__":  # vLLM starts processes that import this file again
    folder, trust, prompts, texts = sys.argv[1], sys.argv[2] == "trust", *map(json.loads, sys.argv[3:])
    llm = LLM(
        model=folder,
        trust_remote_code=trust,
        model_impl="transformers" if trust else "auto",
        dtype="float32",
        enforce_eager=True,
        max_model_len=256,
        max_num_seqs=4,
    )
    outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=100), use_tqdm=False)
    written = [output.outputs[0].text for output in outputs]
    token_ids = llm.get_tokenizer()(texts, split_special_tokens=True)["input_ids"]
    sys.stdout.write(json.dumps({"written": written, "token_ids": token_ids}) + "\n")
