"""Adds to a `*_llama_cpp.json` what float32 makes of the same steps. See README.md.

llama.cpp rounds activations to 8 bits, so its logprobs are off by up to 0.4. Here transformers
runs the same weights, dequantised, in float32 along llama.cpp's own tokens.
Owns: the `exact_*` keys. Never: the rest of the file.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from record_llama_cpp import write


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("golden", type=Path)
    parser.add_argument("model", type=Path, help="path of the GGUF file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(
        options.model.parent,
        gguf_file=options.model.name,
        dtype=torch.float32,
        attn_implementation="eager",
    ).eval()
    golden = json.loads(options.golden.read_text())
    golden["cases"] = [{**case, **exact(model, case)} for case in golden["cases"]]
    write(options.golden, golden)


@torch.no_grad()
def exact(model: torch.nn.Module, case: dict) -> dict:
    prompt, tokens = case["prompt_ids"], case["tokens"]
    logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    logprobs = logits.log_softmax(-1)
    top = logprobs.topk(2)
    return {
        "exact_logprob": rounded(logprobs[range(len(tokens)), tokens]),
        "exact_top": top.indices[:, 0].tolist(),
        "exact_gap": rounded(top.values[:, 0] - top.values[:, 1]),
    }


def rounded(values: torch.Tensor) -> list[float]:
    return [round(value, 5) for value in values.tolist()]


if __name__ == "__main__":
    main()
