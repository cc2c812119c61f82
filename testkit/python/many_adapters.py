"""Registers many small adapters at a running server and measures what a cold one costs.

    python3 many_adapters.py --count 1000 --resident 100        # FIRMAMENT_BASE_URL names the server

Start the server with an adapter budget of `resident` times the size that this prints first. Only the standard
library is used. Weights are random: what they say does not matter here, only that they load and change something.
"""

import argparse
import json
import os
import random
import statistics
import struct
import time
import urllib.request
import uuid

LAYERS, HIDDEN, KEYS = 30, 576, 192  # the default firmware's shape
CONFIG = {"peft_type": "LORA", "r": 1, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "bias": "none"}


def weights(seed: int) -> bytes:
    """A PEFT safetensors file of rank 1 on q and v, float32."""
    source = random.Random(seed)
    header, body = {}, bytearray()
    for layer in range(LAYERS):
        for module, d_out in (("q_proj", HIDDEN), ("v_proj", KEYS)):
            for part, shape in (("A", [1, HIDDEN]), ("B", [d_out, 1])):
                name = f"base_model.model.model.layers.{layer}.self_attn.{module}.lora_{part}.weight"
                values = [source.gauss(0, 0.2) for _ in range(shape[0] * shape[1])]
                start = len(body)
                body += struct.pack(f"<{len(values)}f", *values)
                header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, len(body)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(body)


def call(path: str, body: bytes, kind: str) -> dict:
    """Posts and reads JSON."""
    request = urllib.request.Request(BASE + path, body, {"content-type": kind})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)


def upload(name: str, seed: int) -> None:
    """Brings one adapter; the server answers once it is proved."""
    boundary = uuid.uuid4().hex
    parts = [("name", None, name.encode())]
    parts += [("files", "adapter_config.json", json.dumps(CONFIG).encode())]
    parts += [("files", "adapter_model.safetensors", weights(seed))]
    body = b""
    for field, file, content in parts:
        file = f'; filename="{file}"' if file else ""
        body += f'--{boundary}\r\ncontent-disposition: form-data; name="{field}"{file}\r\n\r\n'.encode()
        body += content + b"\r\n"
    call("/adapters", body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}")


def first_token(model: str) -> float:
    """Milliseconds from the request to one generated token."""
    ask = {"model": model, "prompt": "Once upon a time", "max_tokens": 1, "temperature": 0}
    before = time.monotonic()
    call("/completions", json.dumps(ask).encode(), "application/json")
    return 1000 * (time.monotonic() - before)


def resident_bytes() -> tuple[int, int]:
    """How many adapters are in memory, and what they take."""
    with urllib.request.urlopen(BASE + "/nodes", timeout=10) as reply:
        load = json.load(reply)["data"][0]["load"]
    return len(load["resident"]), load["resident_bytes"]


def show(what: str, times: list[float]) -> None:
    ordered = sorted(times)
    p95 = ordered[int(0.95 * (len(ordered) - 1))]
    print(f"{what}: median {statistics.median(times):.1f} ms, p95 {p95:.1f} ms, n={len(times)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--resident", type=int, default=100)
    asked = parser.parse_args()
    print(f"one adapter: {len(weights(0))} bytes on disk")
    before = time.monotonic()
    for index in range(asked.count):
        upload(f"many-{index}", index)
    print(f"registered and proved {asked.count} in {time.monotonic() - before:.1f} s")
    count, size = resident_bytes()
    print(f"resident: {count} adapters, {size} bytes, {size / max(count, 1):.0f} bytes each")
    cold = [first_token(f"many-{index}") for index in range(min(50, asked.count - asked.resident))]
    warm = [first_token(f"many-{index}") for index in range(max(0, len(cold) - 20), len(cold))]
    base = [first_token("default") for _ in range(20)]
    show("first token, adapter on disk", cold)
    show("first token, adapter in memory", warm)
    show("first token, no adapter", base)


BASE = os.environ.get("FIRMAMENT_BASE_URL", "http://127.0.0.1:8080/v1")

if __name__ == "__main__":
    main()
