"""The PEFT adapters of the tiny bases: those that must load, and those that must be refused.

Owns: LoRA configurations and their random weights, written by PEFT's own `save_pretrained`.
Never: reference outputs.
"""

import json
from pathlib import Path

import torch
from peft import IA3Config, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
LINEARS = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
QV = ["q_proj", "v_proj"]


def lora(targets, rank: int, **more) -> LoraConfig:
    return LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=targets, task_type="CAUSAL_LM", **more
    )


def variants() -> dict:
    """Every way in which a LoRA may be made; anew for each base, since PEFT writes into them."""
    return {
        "qv_r4": lora(QV, 4),
        "all_r8": lora(LINEARS, 8),
        "rslora": lora(ATTENTION, 8, use_rslora=True),
        "patterns": lora(
            LINEARS,
            4,
            rank_pattern={"down_proj": 2, "layers.1.self_attn.q_proj": 6},
            alpha_pattern={"down_proj": 16, "layers.0.self_attn.v_proj": 2},
        ),
        "layers": lora(LINEARS, 4, layers_to_transform=[1], layers_pattern="layers"),
        "regex": lora(r".*\.0\.(self_attn\.[kv]_proj|mlp\.up_proj)", 4),
        "save_head": lora(QV, 4, modules_to_save=["lm_head"]),
    }


def of(base: str) -> dict:
    return {f"{base}_{name}": (base, config) for name, config in variants().items()}


# name -> (base, configuration); a place in this order decides the seed, so what is new comes last
ACCEPTED = {
    **of("llama"),
    "llama_zero_b": ("llama", lora(QV, 4)),
    "qwen2_all_r4": ("qwen2", lora(LINEARS, 4)),
    "gemma3_all_r4": ("gemma3", lora(LINEARS, 4)),
    **of("qwen2"),
    **of("gemma3"),
}
# name -> (configuration, the key in adapter_config.json that makes it unfit); all on `llama`
REFUSED = {
    "dora": (lora(QV, 4, use_dora=True), "use_dora"),
    "bias_all": (lora(QV, 4, bias="all"), "bias"),
    "save_embeddings": (lora(QV, 4, modules_to_save=["embed_tokens"]), "modules_to_save"),
    "pissa": (lora(QV, 4, init_lora_weights="pissa"), "init_lora_weights"),
    "target_parameters": (
        lora([], 4, target_parameters=["mlp.up_proj.weight"]),
        "target_parameters",
    ),
    "trainable_tokens": (lora(QV, 4, trainable_token_indices=[5, 6]), "trainable_token_indices"),
    "fan_in_fan_out": (lora(QV, 4), "fan_in_fan_out"),
    "lora_bias": (lora(QV, 4, lora_bias=True), "lora_bias"),
    "layer_replication": (lora(QV, 4, layer_replication=[[0, 2], [1, 2]]), "layer_replication"),
    "ia3": (
        IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"],
            feedforward_modules=["down_proj"],
            task_type="CAUSAL_LM",
        ),
        "peft_type",
    ),
}


def write_adapter(base: Path, config, folder: Path, seed: int) -> None:
    """Trains nothing: fills A and B with noise and saves them as PEFT does."""
    torch.manual_seed(seed)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                noise = torch.randn(weight.shape, generator=random)
                weight.add_(noise * 0.15)
                if folder.name.endswith("zero_b") and "lora_B" in name:
                    weight.zero_()
    model.save_pretrained(folder)
    (folder / "README.md").unlink()  # a model card template without content
    if folder.name == "fan_in_fan_out":
        # PEFT resets the flag for torch.nn.Linear, so a file that has it comes from elsewhere.
        rewrite(folder / "adapter_config.json", fan_in_fan_out=True)


def rewrite(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=2))
