"""Opens staged folders without this project: a script of its own, which `verification.py` runs in a child process.

    python -P loading_check.py WORK

WORK holds `request.json`; `logits.safetensors` and `written.json` are added to it. The branch `gpt2` has to open
without trust in its code, and as a stock GPT-2.
"""

import importlib.abc
import json
import sys
from pathlib import Path


PROJECT = ("modeling_gpt2scratch", "train", "hub_card")


class RefuseProject(importlib.abc.MetaPathFinder):
    """Makes the project's packages as absent as they are on another machine, installed here or not."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in PROJECT:
            raise ModuleNotFoundError(f"No module named {fullname!r} (the model's code must not need it)")
        return None


def main(work: Path) -> None:
    sys.meta_path.insert(0, RefuseProject())
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

    request = json.loads((work / "request.json").read_text(encoding="utf-8"))
    torch.set_num_threads(request["threads"])
    input_ids = torch.tensor(request["input_ids"])
    logits, written = {}, {}
    for branch, folder in request["folders"].items():
        is_stock = branch == "gpt2"
        # The tokenizer has no code, but opens the model's config, which has.
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=not is_stock)
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=not is_stock).eval()
        if is_stock and type(model) is not GPT2LMHeadModel:
            raise TypeError(f"{folder} opens as {type(model).__name__}, not as GPT2LMHeadModel")
        prompt = tokenizer(request["prompt"], return_tensors="pt")["input_ids"][:, : request["prompt_tokens"]]
        with torch.no_grad():
            logits[branch] = model(input_ids, logits_to_keep=request["kept_positions"]).logits.contiguous()
            output = model.generate(prompt, max_new_tokens=request["new_tokens"], do_sample=False)
        written[branch] = output[0].tolist()
    save_file(logits, work / "logits.safetensors")
    (work / "written.json").write_text(json.dumps(written), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
