"""Run by vLLM's own Python: `vllm_greedy.py FOLDER trust|plain PROMPTS_AS_JSON` prints what it continues them with."""

import json
import sys

from vllm import LLM, SamplingParams


if __name__ == "__main__":  # vLLM starts processes that import this file again
    folder, trust, prompts = sys.argv[1], sys.argv[2] == "trust", json.loads(sys.argv[3])
    llm = LLM(
        model=folder,
        trust_remote_code=trust,
        model_impl="transformers" if trust else "auto",
        dtype="float32",
        enforce_eager=True,
        max_model_len=256,
        max_num_seqs=4,
    )
    outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=40), use_tqdm=False)
    sys.stdout.write(json.dumps([output.outputs[0].text for output in outputs]) + "\n")
