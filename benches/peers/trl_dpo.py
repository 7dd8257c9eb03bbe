"""TRL's DPO trainer, measured: prints one JSON object with the keys that `tiebreak bench train --json` has.

`default` is the trainer as it comes: gradient checkpointing, the reference's forward in every step. `tuned` switches the first
off and precomputes the reference, whose pass is then timed apart and not counted. f32 on the CPU, bf16 autocast with --cuda.
A step is timed around forward, backward and update; with --cuda the device has finished when the clock is read.
"""

import argparse
import json
import os
import resource
import tempfile
import time

import peft
import torch
import transformers
import trl
from datasets import Dataset
from safetensors.torch import load_file
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("model")
    p.add_argument("pairs")
    p.add_argument("--mode", choices=["default", "tuned"], required=True)
    p.add_argument("--steps", type=int, default=3)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--min", type=int, default=128)
    p.add_argument("--max", type=int, default=320)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--start", help="a file of adapters to start from, as `tiebreak bench train --start-to` writes it")
    p.add_argument("--cuda", action="store_true")
    return p.parse_args()


def choose(a, tokenizer):
    """The first pairs whose longer side fits, and the real tokens of each step."""
    rows, tokens = [], []
    wanted = a.batch * (a.steps + 1)
    with open(a.pairs) as lines:
        for line in lines:
            row = json.loads(line)
            sides = [tokenizer.apply_chat_template(row["prompt"] + row[side], tokenize=True, return_dict=True)["input_ids"]
                     for side in ("chosen", "rejected")]
            lengths = [len(ids) for ids in sides]
            if a.min <= max(lengths) <= a.max:
                rows.append({key: row[key] for key in ("prompt", "chosen", "rejected")})
                tokens.append(sum(lengths))
            if len(rows) == wanted:
                break
    if len(rows) < wanted:
        raise SystemExit(f"{wanted} pairs are needed, {len(rows)} fit")
    return rows, [sum(tokens[i:i + a.batch]) for i in range(0, wanted, a.batch)]


def start_from(model, path):
    """Gives the adapters the values of a file, every one of them."""
    given = load_file(path)
    own = {name.removeprefix("base_model.model.").replace(".default", ""): p
           for name, p in model.named_parameters() if p.requires_grad}
    if own.keys() != given.keys():
        raise SystemExit(f"{path} holds other adapters: {sorted(own.keys() ^ given.keys())[:4]}")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(given[name])


class Clock(TrainerCallback):
    """Every step's seconds and what was logged of it."""

    def __init__(self, cuda):
        self.cuda, self.seconds, self.logged, self.began = cuda, [], [], 0.0

    def now(self):
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def on_step_begin(self, *_, **__):
        self.began = self.now()

    def on_step_end(self, *_, **__):
        self.seconds.append(self.now() - self.began)

    def on_log(self, args, state, control, logs=None, **__):
        if logs and "loss" in logs:
            self.logged.append({key: value for key, value in logs.items() if isinstance(value, (int, float))})


class FileOrder(trl.DPOTrainer):
    """The trainer on its rows in the file's order."""

    def _get_train_sampler(self, *_, **__):
        return SequentialSampler(self.train_dataset)


def main():
    a = arguments()
    torch.set_num_threads(a.threads)
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    rows, tokens = choose(a, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    parameters = sum(p.numel() for p in model.parameters())
    clock = Clock(a.cuda)
    with tempfile.TemporaryDirectory() as folder:
        config = trl.DPOConfig(
            output_dir=folder, per_device_train_batch_size=a.batch, max_steps=a.steps + 1, beta=0.1, learning_rate=1e-4,
            lr_scheduler_type="constant", logging_steps=1, report_to=[], save_strategy="no", seed=0,
            max_length=max(1024, a.max), use_cpu=not a.cuda, bf16=a.cuda,
            gradient_checkpointing=a.mode == "default", precompute_ref_log_probs=a.mode == "tuned")
        lora = peft.LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
        before = time.perf_counter()
        trainer = FileOrder(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
                            peft_config=lora, callbacks=[clock])
        if a.start:
            start_from(trainer.model, a.start)
        trainer.train()
        whole = time.perf_counter() - before
    counted = clock.seconds[1:]
    peak = torch.cuda.max_memory_allocated() if a.cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({
        "bench": "train", "mode": a.mode, "pairs": len(rows), "real_tokens": sum(tokens), "parameters": parameters,
        "real_tokens_per_s": round(sum(tokens[1:]) / sum(counted), 1),
        "step_s": sorted(counted)[len(counted) // 2],
        "peak_mib": peak // 2**20,
        # The reference pass and everything else around the steps.
        "reference_s": round(whole - sum(clock.seconds), 1) if a.mode == "tuned" else None,
        "steps": [{"step": i + 1, "warm_up": i == 0, "seconds": round(s, 4), "real_tokens": n, "metrics": m}
                  for i, (s, n, m) in enumerate(zip(clock.seconds, tokens, clock.logged))],
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__,
                     "peft": peft.__version__},
        "device": torch.cuda.get_device_name() if a.cuda else f"CPU, {a.threads} threads",
    }))


if __name__ == "__main__":
    main()
