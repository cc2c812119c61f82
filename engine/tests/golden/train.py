"""Trains adapters of the tiny bases with PyTorch and PEFT, and writes down how that goes.

    python train.py                 # writes train/NAME: data, first adapter, losses, last logits
    python train.py check exported  # writes what PEFT makes of an adapter of ours: exported/golden.json

Owns: reference losses. Never: anything random that is not drawn from SEED. README.md has the versions.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import get_scheduler

from adapters import ATTENTION, LINEARS, QV
from bases import VOCAB
from make import PROMPT_TOKENS, SEED, is_telling, load, reference, rounded, write_golden

STEPS = 24
BATCH = 4
EXAMPLES = 20

# name -> (base, LoRA, optimizer): every schedule, decay, clipping and scale is used somewhere
RUNS = {
    "llama": (
        "llama",
        dict(r=4, lora_alpha=8, target_modules=LINEARS),
        dict(learning_rate=2e-3, schedule="linear", warmup=0.1, weight_decay=0.0, clip_norm=1.0),
    ),
    "qwen2": (
        "qwen2",
        dict(r=8, lora_alpha=16, target_modules=ATTENTION, use_rslora=True),
        dict(learning_rate=1e-3, schedule="cosine", warmup=0.2, weight_decay=0.01, clip_norm=0.5),
    ),
    "gemma3": (
        "gemma3",
        dict(r=4, lora_alpha=4, target_modules=QV),
        dict(learning_rate=5e-3, schedule="constant", warmup=0.0, weight_decay=0.1, clip_norm=100.0),
    ),
}


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if sys.argv[1:2] == ["check"]:
        return check(Path(sys.argv[2]))
    shutil.rmtree("train", ignore_errors=True)
    for index, (name, (base, lora, optimizer)) in enumerate(RUNS.items()):
        run(Path("train") / name, base, lora, optimizer, SEED + 300_000 + index)


def run(folder: Path, base: str, lora: dict, optimizer: dict, seed: int) -> None:
    torch.manual_seed(seed)
    model = get_peft_model(load(Path("bases") / base), LoraConfig(task_type="CAUSAL_LM", **lora))
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)
    examples = [example() for _ in range(EXAMPLES)]
    losses, norms = train(model, examples, optimizer)
    prompt = torch.randint(3, VOCAB, (PROMPT_TOKENS,))
    golden = {
        "base": base,
        "lora": {
            "rank": lora["r"],
            "alpha": lora["lora_alpha"],
            "rank_stabilised": lora.get("use_rslora", False),
            "targets": [target.split("_")[0] for target in lora["target_modules"]],
        },
        "optimizer": optimizer,
        "batch": BATCH,
        "examples": examples,
        "losses": losses,
        "norms": norms,
        "prompt": prompt.tolist(),
        "logits": rounded(logits(model, prompt)),
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items()]
    (folder / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")  # a line for each list


def example() -> dict:
    """A sequence with one or two answers, as a conversation has them."""
    length = int(torch.randint(12, 24, ()))
    answers = [[length - 4, length]] if length % 2 else [[4, 6], [length - 3, length]]
    return {"tokens": torch.randint(3, VOCAB, (length,)).tolist(), "answers": answers}


def train(model: torch.nn.Module, examples: list, settings: dict) -> tuple[list, list]:
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    kind = "constant_with_warmup" if settings["schedule"] == "constant" else settings["schedule"]
    warmup = -int(-settings["warmup"] * STEPS // 1)
    scheduler = get_scheduler(kind, optimizer, warmup, STEPS)
    losses, norms = [], []
    for step in range(STEPS):
        batch = [examples[(step * BATCH + place) % EXAMPLES] for place in range(BATCH)]
        targets = sum(end - start for one in batch for start, end in one["answers"])
        loss = sum(loss_of(model, one) for one in batch) / targets
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(trained, settings["clip_norm"]).item())
        losses.append(loss.item())
        optimizer.step()
        scheduler.step()
    model.eval()
    return losses, norms


def loss_of(model: torch.nn.Module, one: dict) -> torch.Tensor:
    """One sequence at a time: no padding can change a thing."""
    tokens = torch.tensor(one["tokens"])
    predicted = model(tokens[None]).logits[0]
    places = torch.tensor([at for start, end in one["answers"] for at in range(start, end)])
    return cross_entropy(predicted[places - 1], tokens[places], reduction="sum")


@torch.no_grad()
def logits(model: torch.nn.Module, prompt: torch.Tensor) -> torch.Tensor:
    return model(prompt[None]).logits[0, -1].float()


def check(folder: Path) -> None:
    """What PEFT computes with an adapter that this project's trainer wrote."""
    base = "llama"
    prompt = torch.randint(3, VOCAB, (PROMPT_TOKENS,), generator=torch.Generator().manual_seed(SEED))
    golden, _ = reference(PeftModel.from_pretrained(load(Path("bases") / base), folder), prompt)
    assert is_telling(golden), golden["greedy_gap_min"]
    write_golden(folder, {"base": base, **golden})


if __name__ == "__main__":
    main()
