"""PEFT: LoRA trains, saves, loads again and merges, on layers named by hand and on `all-linear`."""

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM


ATTENTION = ["q_proj", "v_proj"]


@pytest.mark.parametrize(("target", "layers"), [(ATTENTION, 2 * 2), ("all-linear", 2 * 6)])
def test_lora_trains_saves_loads_and_merges(target, layers, custom_folder, tokenizer, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(custom_folder)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    torch.manual_seed(0)
    config = LoraConfig(r=16, lora_alpha=32, target_modules=target, task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    assert sum(name.endswith("lora_A.default.weight") for name, _ in model.named_parameters()) == layers

    batch = tokenizer("Q: Who wrote Hamlet?\n\nA: Somebody else<|endoftext|>", return_tensors="pt")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(30):
        loss = model.train()(**batch, labels=batch["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    frozen = {
        name.replace(".base_layer", ""): tensor for name, tensor in base.state_dict().items() if "lora" not in name
    }
    assert all(torch.equal(frozen[name], before[name]) for name in before)

    expected = model.eval()(**batch).logits
    model.save_pretrained(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < 1e6
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(custom_folder), tmp_path / "adapter")
    torch.testing.assert_close(again.eval()(**batch).logits, expected)
    by_name = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(by_name.eval()(**batch).logits, expected)

    again.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert merged.state_dict().keys() == before.keys()
    torch.testing.assert_close(merged(**batch).logits, expected, atol=1e-4, rtol=1e-4)
