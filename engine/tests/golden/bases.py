"""The tiny base models: one published config.json each, in the spelling its family publishes.

Owns: configurations and random weights. Never: reference outputs, adapters.
"""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

VOCAB = 272
COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "use_cache": True,
    "torch_dtype": "float32",
}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "mlp_bias": False,
    "pretraining_tp": 1,
    "rope_scaling": None,
}
MISTRAL = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 32,  # head_dim * heads is twice this, as in Mistral-Nemo
    "head_dim": 16,
}

# name -> the keys that differ from COMMON
CONFIGS = {
    "llama": {**LLAMA, "head_dim": 16},
    "llama_bf16": {**LLAMA, "torch_dtype": "bfloat16"},  # the weights of `llama`, rounded
    "llama_rope_llama3": {
        **LLAMA,
        "head_dim": 16,
        "tie_word_embeddings": True,
        "rope_scaling": {
            # Chosen so that some frequencies stay, some are blended, some are divided by 8.
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
        "sliding_window": 8,  # must be ignored: use_sliding_window is false
        "use_sliding_window": False,
        "max_window_layers": 1,
    },
    "qwen3": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "head_dim": 20,  # head_dim * heads = 80, not hidden_size
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "attention_bias": False,
        "rope_scaling": None,
        "sliding_window": None,
        "use_sliding_window": False,
        "max_window_layers": 2,
    },
    "gemma3": {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "num_hidden_layers": 3,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 24,  # the attention scale is not 1 / sqrt(head_dim)
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "sliding_window": 8,  # shorter than the prompt
        "_sliding_window_pattern": 3,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "use_bidirectional_attention": False,
        "tie_word_embeddings": True,
    },
    "mistral": {**MISTRAL, "rope_theta": 1000000.0, "sliding_window": None},
    "mistral_window": {**MISTRAL, "sliding_window": 10},
}
# transformers 5 writes other keys (`rope_parameters`, `dtype`); these bases use that spelling.
NEW_SPELLING = {"qwen3", "llama_rope_llama3"}


def write_base(name: str, folder: Path, seed: int) -> None:
    """Writes config.json and model.safetensors of one random model."""
    folder.mkdir(parents=True, exist_ok=True)
    published = {**COMMON, **CONFIGS[name]}
    if published["model_type"] == "gemma3_text":
        del published["hidden_act"]
    config = AutoConfig.for_model(**published)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fill(model, published, seed)
    if name in NEW_SPELLING:
        config.architectures = published["architectures"]
        model.config.save_pretrained(folder)
    else:
        (folder / "config.json").write_text(json.dumps(published, indent=2, sort_keys=True) + "\n")
    dtype = getattr(torch, published["torch_dtype"])
    tensors = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}
    if published["tie_word_embeddings"]:
        del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def fill(model: torch.nn.Module, published: dict, seed: int) -> None:
    """Random weights strong enough that heads, norms, biases and positions all matter."""
    random = torch.Generator().manual_seed(seed)
    width = published["hidden_size"]
    is_gemma = published["model_type"] == "gemma3_text"
    # The head reads a state of root mean square one: 2.5 / sqrt(width) gives logits of std 2.5.
    rows = 2.5 / width**0.5
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            if re.search(r"(embed_tokens|lm_head)\.weight$", name):
                weight.copy_(noise * rows)
            elif name.endswith("norm.weight"):
                # Gemma keeps weight - 1. Its post-norms must outweigh the scaled embedding, or a
                # tied head repeats the last token for ever.
                centre = 0.0 if is_gemma else 1.0
                weight.copy_(noise * 0.25 + (4.0 if is_gemma and ".post_" in name else centre))
            elif name.endswith(".bias"):
                weight.copy_(noise * 0.5)
            else:
                weight.copy_(noise * 1.4 / weight.shape[1] ** 0.5)
