"""llama.cpp through its own C interface, measured as `tiebreak bench sample` measures: candidates of one prompt that share one
prefill and are decoded together, prefill apart, no token ends a candidate. Prints one JSON object with the same keys."""

import argparse
import ctypes
import json
import os
import resource
import statistics
import time

import llama_cpp as ll

PROMPT = ("Explain to a curious child why the sky is blue during the day and red in the evening, and give an example.")


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("gguf")
    p.add_argument("--rows", default="1,8")
    p.add_argument("--tokens", type=int, default=128)
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--prompt", default=PROMPT)
    return p.parse_args()


def tokens_of(model, text):
    vocab = ll.llama_model_get_vocab(model)
    raw = text.encode()
    room = (ll.llama_token * (len(raw) + 16))()
    n = ll.llama_tokenize(vocab, raw, len(raw), room, len(room), False, True)
    if n < 0:
        raise SystemExit("the prompt does not tokenise")
    return list(room[:n])


def chain(seed):
    """Temperature 0.8 and nucleus 0.95, as tiebreak's default sampler draws."""
    out = ll.llama_sampler_chain_init(ll.llama_sampler_chain_default_params())
    ll.llama_sampler_chain_add(out, ll.llama_sampler_init_top_p(0.95, 1))
    ll.llama_sampler_chain_add(out, ll.llama_sampler_init_temp(0.8))
    ll.llama_sampler_chain_add(out, ll.llama_sampler_init_dist(seed))
    return out


def put(batch, i, token, position, row, logits):
    batch.token[i] = token
    batch.pos[i] = position
    batch.n_seq_id[i] = 1
    batch.seq_id[i][0] = row
    batch.logits[i] = logits


def once(context, prompt, rows, tokens, seed):
    """Seconds of the prefill, to every candidate's first token, and of the tokens behind the first."""
    memory = ll.llama_get_memory(context)
    ll.llama_memory_clear(memory, True)
    samplers = [chain(seed * 1000 + row) for row in range(rows)]
    batch = ll.llama_batch_init(max(len(prompt), rows), 0, 1)
    began = time.perf_counter()
    for i, token in enumerate(prompt):
        put(batch, i, token, i, 0, i == len(prompt) - 1)
    batch.n_tokens = len(prompt)
    if ll.llama_decode(context, batch) != 0:
        raise SystemExit("llama.cpp could not decode the prompt")
    for row in range(1, rows):
        ll.llama_memory_seq_cp(memory, 0, row, -1, -1)
    last = [ll.llama_sampler_sample(s, context, len(prompt) - 1) for s in samplers]
    middle = time.perf_counter()
    for step in range(tokens - 1):
        for row in range(rows):
            put(batch, row, last[row], len(prompt) + step, row, True)
        batch.n_tokens = rows
        if ll.llama_decode(context, batch) != 0:
            raise SystemExit("llama.cpp could not decode a token")
        last = [ll.llama_sampler_sample(s, context, row) for row, s in enumerate(samplers)]
    ended = time.perf_counter()
    ll.llama_batch_free(batch)
    for s in samplers:
        ll.llama_sampler_free(s)
    return middle - began, ended - middle


def main():
    a = arguments()
    ll.llama_backend_init()
    quiet = ll.llama_log_callback(lambda *_: None)
    ll.llama_log_set(quiet, ctypes.c_void_p(0))
    model = ll.llama_model_load_from_file(a.gguf.encode(), ll.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp cannot load {a.gguf}")
    # The turn as ChatML writes it, which SmolLM2 and Qwen2 speak.
    prompt = tokens_of(model, f"<|im_start|>user\n{a.prompt}<|im_end|>\n<|im_start|>assistant\n")
    counts = [int(n) for n in a.rows.split(",")]
    params = ll.llama_context_default_params()
    params.n_ctx = (len(prompt) + a.tokens + 8) * max(counts)
    params.n_batch = max(512, len(prompt), max(counts))
    params.n_seq_max = max(counts)
    params.n_threads = params.n_threads_batch = a.threads
    context = ll.llama_init_from_model(model, params)
    if not context:
        raise SystemExit("llama.cpp gives no context")
    out = []
    for rows in counts:
        runs = [once(context, prompt, rows, a.tokens, run) for run in range(a.runs + 1)][1:]
        speeds = [rows * (a.tokens - 1) / decode for _, decode in runs]
        out.append({
            "rows": rows,
            "tokens_per_s": round(statistics.median(speeds), 2),
            "tokens_per_s_spread": {"median": round(statistics.median(speeds), 2), "least": round(min(speeds), 2),
                                    "most": round(max(speeds), 2), "count": len(speeds)},
            "with_prefill_tokens_per_s": round(statistics.median(rows * a.tokens / sum(run) for run in runs), 2),
            "prefill_tokens_per_s": round(statistics.median(len(prompt) / prefill for prefill, _ in runs), 2),
        })
    print(json.dumps({
        "bench": "sample", "prompt_tokens": len(prompt), "tokens": a.tokens, "rows": out,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "versions": {"llama-cpp-python": ll.__version__}, "device": f"CPU, {a.threads} threads",
    }))


if __name__ == "__main__":
    main()
