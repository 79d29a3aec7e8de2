"""Texts that a model writes after prompts: in batches, shared out among the processes of a distributed run."""

import functools
from collections.abc import Callable

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import PreTrainedModel


TEXTS_PER_BATCH = 64


def share_out(items: list, work: Callable[[list], list]) -> list:
    """The results of `work`, one for each item, in order; all processes must call this, and each does a share."""
    with PartialState().split_between_processes(items) as share:
        return gather_object(work(share))


def write_texts(
    model: PreTrainedModel,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    end_of_text: int,
    title: str,
    samples: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    shared: bool = True,
) -> list[list[list[int]]]:
    """The token ids of `samples` texts after each prompt, which leaves room for `max_new_tokens`; each with the
    end-of-text token where the model came to it. A temperature of 0 takes the likeliest token; the seed decides, with
    the number of processes, what is drawn.

    All processes of a distributed run must call this, and all get all texts. If `shared`, each writes a share of them;
    else all write all, as the shards of a model always do. The model's mode and the run's random numbers stay as they
    are.
    """
    shared = shared and not model.is_distributed_loading_by_transformers
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    options = {"max_new_tokens": max_new_tokens, **(sampling if temperature else {"do_sample": False})}
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed + (PartialState().process_index if shared else 0))
        write = functools.partial(_write_share, model, samples, end_of_text, title, options)
        texts = share_out(prompts, write) if shared else write(prompts)
    model.train(was_training)
    return texts


def _write_share(
    model: PreTrainedModel, samples: int, end_of_text: int, title: str, options: dict, prompts: list[list[int]]
) -> list[list[list[int]]]:
    # Neighbours of like length waste little on padding.
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    at_once = max(1, TEXTS_PER_BATCH // samples)
    texts: list[list[list[int]]] = [[] for _ in prompts]
    hides = not PartialState().is_main_process
    with tqdm(total=len(prompts), desc=title, unit=" questions", disable=hides, leave=False) as progress:
        for start in range(0, len(order), at_once):
            numbers = order[start : start + at_once]
            batch = [torch.tensor(prompts[number]) for number in numbers for _ in range(samples)]
            # GPT-2's tokenizer has no padding token, and one that it is given would be saved with the model.
            input_ids = pad_sequence(batch, batch_first=True, padding_value=end_of_text, padding_side="left")  # (B, T)
            ones = [torch.ones_like(prompt) for prompt in batch]
            attention_mask = pad_sequence(ones, batch_first=True, padding_side="left")
            written = model.generate(
                input_ids.to(model.device),
                attention_mask=attention_mask.to(model.device),
                pad_token_id=end_of_text,
                **options,
            )[:, input_ids.shape[1] :]
            for place, ids in enumerate(written.tolist()):
                length = ids.index(end_of_text) + 1 if end_of_text in ids else len(ids)
                texts[numbers[place // samples]].append(ids[:length])
            progress.update(len(numbers))
    return texts
