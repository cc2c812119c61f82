"""Starts `firmament up` on the default firmware, gives it an adapter, and drives it with the `openai` package.

    python against_binary.py BINARY DATA

DATA keeps the fetched firmware for the next run; the server's own data lies in a folder that goes with it.
Exit status of `openai_client_test.py`.

Owns: starting and ending the server, the adapter's files. Never: a check.
"""

import array
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# The default firmware: SmolLM2-135M.
LAYERS, HIDDEN, KV_WIDTH, RANK = 30, 576, 192, 4
STOP_MAX_SECONDS = 60


def main(binary: str, cache: Path) -> int:
    subprocess.run([binary, "--data", str(cache), "firmware", "pull"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        data, lora = Path(folder, "data"), Path(folder, "lora")
        data.mkdir()
        (data / "firmwares").symlink_to((cache / "firmwares").resolve())
        write_lora(lora)
        command = [binary, "--data", str(data), "up", "--listen", "127.0.0.1:0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            return check(binary, server, lora)
        finally:
            server.send_signal(signal.SIGTERM)
            ended = server.wait(STOP_MAX_SECONDS)
            assert ended == 0, f"the server ended with {ended}"


def check(binary: str, server: subprocess.Popen, lora: Path) -> int:
    line = server.stdout.readline().strip()
    assert line.startswith("ready "), f"the server said {line!r}"
    url = line.removeprefix("ready ")
    add = ["adapter", "add", str(lora), "--name", "odd", "--url", url]
    subprocess.run([binary, *add], check=True)
    environment = {
        "FIRMAMENT_BASE_URL": f"{url}/v1",
        "FIRMAMENT_TEST_MODEL": "smollm2-135m-instruct",
        "FIRMAMENT_TEST_ADAPTER": "odd",
    }
    checks = [sys.executable, str(HERE / "openai_client_test.py")]
    return subprocess.run(checks, env={**os.environ, **environment}).returncode


def write_lora(folder: Path) -> None:
    """A LoRA as PEFT lays it out, with random weights that are the same each time."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
    }
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(safetensors(tensors()))


def tensors():
    numbers = random.Random(3)
    for layer in range(LAYERS):
        for module, width in (("q_proj", HIDDEN), ("v_proj", KV_WIDTH)):
            path = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            for name, shape, spread in (
                ("lora_A", [RANK, HIDDEN], HIDDEN**-0.5),
                ("lora_B", [width, RANK], 0.5),
            ):
                count = shape[0] * shape[1]
                values = array.array("f", (numbers.gauss(0, spread) for _ in range(count)))
                yield f"{path}.{name}.weight", shape, values.tobytes()


def safetensors(named) -> bytes:
    """Source: the safetensors format, version 0.4: header length, JSON header, data."""
    header, data = {}, bytearray()
    for name, shape, values in named:
        begin = len(data)
        data += values
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
