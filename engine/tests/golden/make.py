"""Makes the golden files of this folder with transformers and PEFT. README.md has the command.

Owns: the reference outputs (logits, greedy tokens, embeddings). Never: anything random that is
not drawn from SEED.
"""

import json
import shutil
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from adapters import ACCEPTED, REFUSED, write_adapter
from bases import CONFIGS, VOCAB, write_base

SEED = 20261122
PROMPT_TOKENS = 24
LOGIT_ROWS = 4
GREEDY_TOKENS = 16
SEEDS_MAX = 200  # seeds tried before giving up
GAP_MIN = 0.05  # no greedy step may be a near-tie: another order of sums must not change it
COMBINED = ["llama_qv_r4", "llama_all_r8"]


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for folder in ("bases", "adapters", "refused"):
        shutil.rmtree(folder, ignore_errors=True)
    prompt = torch.randint(3, VOCAB, (PROMPT_TOKENS,), generator=torch.Generator().manual_seed(SEED))
    base_logits = make_bases(prompt)
    for index, name in enumerate(ACCEPTED):
        make_adapter(name, index, prompt, base_logits)
    make_combined(prompt, base_logits["llama"])
    for index, name in enumerate(REFUSED):
        make_refused(name, index)


def make_bases(prompt: torch.Tensor) -> dict[str, torch.Tensor]:
    """Whole logits of each base. `llama_bf16` is `llama` rounded, so the two share a seed."""
    groups = [["llama", "llama_bf16"]] + [[n] for n in CONFIGS if not n.startswith("llama_b")][1:]
    logits = {}
    for index, names in enumerate(groups):
        first = SEED + index * 1000
        for seed in range(first, first + SEEDS_MAX):
            if all(make_base(name, seed, prompt, logits) for name in names):
                break
        else:
            raise AssertionError(f"no seed gives {names} a telling continuation")
    return logits


def make_base(name: str, seed: int, prompt: torch.Tensor, logits: dict) -> bool:
    folder = Path("bases") / name
    write_base(name, folder, seed)
    golden, logits[name] = reference(load(folder), prompt)
    write_golden(folder, {"weights_seed": seed, **golden})
    return is_telling(golden)


def make_adapter(name: str, index: int, prompt: torch.Tensor, base_logits: dict) -> None:
    base, config = ACCEPTED[name]
    folder = Path("adapters") / name
    first = SEED + 100_000 + index * 1000
    for seed in range(first, first + SEEDS_MAX):
        write_adapter(Path("bases") / base, config, folder, seed)
        model = PeftModel.from_pretrained(load(Path("bases") / base), folder)
        golden, logits = reference(model, prompt)
        if is_telling(golden):
            break
    else:
        raise AssertionError(f"no seed gives {name} a telling continuation")
    effect = (logits - base_logits[base]).abs().max().item()
    assert (effect == 0.0) == (name == "llama_zero_b"), f"{name} changes logits by {effect}"
    head = {"base": base, "adapters": [{"name": name, "weight": 1.0}], "effect_max": round(effect, 6)}
    write_golden(folder, {"weights_seed": seed, **head, **golden})


def make_combined(prompt: torch.Tensor, base_logits: torch.Tensor) -> None:
    """Sum of weighted deltas, by PEFT's `cat`, checked against each delta added to the weights."""
    for second in range(20, 100, 5):
        weights = [0.75, second / 100]
        golden, logits = reference(combined(weights), prompt)
        if is_telling(golden):
            break
    else:
        raise AssertionError("no second weight gives the sum a telling continuation")
    by_hand = added_by_hand(weights)(prompt[None]).logits[0]
    difference = (by_hand - logits).abs().max().item()
    assert difference < 1e-3, f"the sum of the deltas differs by {difference}"
    folder = Path("adapters/llama_combined")
    folder.mkdir(parents=True)
    head = {
        "base": "llama",
        "adapters": [{"name": n, "weight": w} for n, w in zip(COMBINED, weights)],
        "effect_max": round((logits - base_logits).abs().max().item(), 6),
    }
    write_golden(folder, {**head, **golden})


def combined(weights: list[float]) -> PeftModel:
    first, second = COMBINED
    model = PeftModel.from_pretrained(load(Path("bases/llama")), Path("adapters") / first, first)
    model.load_adapter(Path("adapters") / second, second)
    model.add_weighted_adapter(COMBINED, weights, "sum", combination_type="cat")
    model.set_adapter("sum")
    return model


def added_by_hand(weights: list[float]) -> torch.nn.Module:
    """The base with `weight * scale * B @ A` of each adapter added to its matrices."""
    base = load(Path("bases/llama"))
    for name, weight in zip(COMBINED, weights):
        model = PeftModel.from_pretrained(load(Path("bases/llama")), Path("adapters") / name)
        for path, module in model.base_model.model.named_modules():
            if hasattr(module, "get_delta_weight"):
                base.get_submodule(path).weight.data += weight * module.get_delta_weight("default")
    return base


def make_refused(name: str, index: int) -> None:
    config, key = REFUSED[name]
    folder = Path("refused") / name
    write_adapter(Path("bases/llama"), config, folder, SEED + 200_000 + index * 1000)
    value = json.loads((folder / "adapter_config.json").read_text())[key]
    write_golden(folder, {"base": "llama", "refused_for": key, "value": value})


def load(folder: Path) -> torch.nn.Module:
    """Always computes in float32, whatever the file holds."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@torch.no_grad()
def reference(model: torch.nn.Module, prompt: torch.Tensor) -> tuple[dict, torch.Tensor]:
    """Reference outputs of one prompt: as written to golden.json, and the whole logits."""
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    states = causal.model(prompt[None]).last_hidden_state[0]  # final norm applied
    logits = causal(prompt[None]).logits[0].float()
    tokens, gap_min = greedy(causal, prompt)
    embedding = torch.nn.functional.normalize(states.mean(0), dim=0)
    golden = {
        "prompt": prompt.tolist(),
        "logits_positions": list(range(PROMPT_TOKENS - LOGIT_ROWS, PROMPT_TOKENS)),
        "logits": rounded(logits[-LOGIT_ROWS:]),
        "logits_std": round(logits[-LOGIT_ROWS:].std().item(), 6),
        "greedy": tokens,
        "greedy_gap_min": round(gap_min, 6),
        "embedding": rounded(embedding),
    }
    return golden, logits


def greedy(model: torch.nn.Module, prompt: torch.Tensor) -> tuple[list[int], float]:
    """Most likely tokens, end of sequence ignored, and the smallest lead of a first over a second.

    The whole sequence is computed anew at each step: no cache can hide a mistake.
    """
    ids, gaps = prompt.tolist(), []
    for _ in range(GREEDY_TOKENS):
        top = model(torch.tensor([ids])).logits[0, -1].topk(2)
        gaps.append((top.values[0] - top.values[1]).item())
        ids.append(top.indices[0].item())
    return ids[PROMPT_TOKENS:], min(gaps)


def is_telling(golden: dict) -> bool:
    varied = len(set(golden["greedy"])) >= 6
    return varied and golden["greedy_gap_min"] >= GAP_MIN and golden["logits_std"] >= 1.0


def rounded(values: torch.Tensor) -> list:
    return [rounded(row) if row.ndim else round(row.item(), 6) for row in values]


def write_golden(folder: Path, golden: dict) -> None:
    """One key a line, each row of numbers on one line."""
    lines = []
    for key, value in golden.items():
        if key == "logits":
            rows = ",\n    ".join(json.dumps(row, separators=(",", ":")) for row in value)
            lines.append(f'  "{key}": [\n    {rows}\n  ]')
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    (folder / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
