"""Records what llama.cpp makes of a real model: greedy tokens and tokenisation. See README.md.

Owns: driving one llama-server and writing its answers. Never: computing anything itself.
"""

import argparse
import json
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

BUILD = "llama.cpp 0c1e57098 (0.5.0-dev, ggml 0.25.3), vendored in llama-cpp-python 0.3.36"
FLAGS = "-fa off -t 1 -np 1 -c 2048 --no-warmup"
TOKENS = 48
PORT = 18555

CHAT = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [
        {"role": "system", "content": "You answer briefly."},
        {"role": "user", "content": "Name three planets."},
        {"role": "assistant", "content": "Mars, Venus and Saturn."},
        {"role": "user", "content": "Which of them is the largest, and why?"},
    ],
]
CODE_CHAT = [[{"role": "user", "content": "Write a Python function that reverses a string."}]]
RAW = [
    "Once upon a time, in a small village by the sea, there lived",
    "The three most important things to know about photosynthesis are:\n1.",
]
CODE_RAW = ["def fibonacci(n):\n    "]
MODELS = {
    "smollm2": (CHAT, RAW, ["<|im_start|>user\nHi<|im_end|>\n", "<|endoftext|>", "a<|im_end|>b"]),
    "gemma3": ([], RAW, ["<bos>Hi<eos>", "<start_of_turn>user\nHi<end_of_turn>\n", "a<eos>b"]),
    "qwen25": (
        CODE_CHAT,
        CODE_RAW,
        ["<|im_start|>user\nHi<|im_end|>\n", "<tool_call>\n{}\n</tool_call>", "a<|endoftext|>b"],
    ),
}
TRICKY = [
    "",
    " ",
    "Hello world",
    " leading space",
    "trailing space ",
    "a  b   c    d",
    "\n",
    "\n\n\nthree newlines\n\n",
    "line one\r\nline two\r\n",
    "\t\ttabs\tand  spaces \t\n  x",
    "0 12 345 6789 1234567890",
    "3.14159, -42, 1e-10, 0xDEADBEEF, 1,000,000",
    "I'm you're he'll they've WE'D it's DON'T o'clock",
    "naïve café Ångström Straße",
    "cafe\u0301 A\u030a",  # combining marks, not composed
    "Привет, как дела? Ещё раз.",
    "你好，世界！今天天气很好。",
    "こんにちは世界、カタカナ テスト",
    "안녕하세요 세계",
    "مرحبا بالعالم ١٢٣",
    "नमस्ते दुनिया",
    "😀👍🏽👨‍👩‍👧‍👦🇫🇷 end",
    "for (int i = 0; i < n; ++i) {\n    a[i] += b[i] * 2;\n}\n",
    "def f(x):\n\treturn x if x else None  # tabs\n",
    '{"key": [1, 2.5, null, true], "s": "a\\"b"}',
    "!!!???...---___***///\\\\\\|||~~~",
    "https://example.org/a/b?c=d&e=%20#f user@example.org",
    "\u00a0no-break\u2003em\u3000ideographic\u200bzero width\ufeff",
    "x\u0000y\u0001\u007fz",
    "CamelCaseWord snake_case_word SCREAMING_CASE kebab-case",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "a" * 40,
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("server", help="path of llama-server")
    parser.add_argument("model", type=Path, help="path of the GGUF file")
    options = parser.parse_args()
    chats, raws, special = MODELS[options.name]
    command = [options.server, "-m", str(options.model), "--port", str(PORT), *FLAGS.split()]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_ready()
        head = {
            "build": BUILD,
            "command": f"llama-server -m {options.model.name} --port {PORT} {FLAGS}",
            "model": options.model.name,
        }
        greedy = [chat(messages) for messages in chats] + [raw(text) for text in raws]
        write(f"{options.name}_llama_cpp.json", {**head, "request": REQUEST, "cases": greedy})
        cases = tokenised(special)
        write(f"tokenize_{options.name}.json", {**head, "cases": cases})
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_until_ready() -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise TimeoutError("llama-server did not get ready")


def ask(path: str, body: dict) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
        return json.load(reply)


REQUEST = {
    "n_predict": TOKENS,
    "temperature": 0,
    "samplers": ["temperature"],
    "n_probs": 2,
    "return_tokens": True,
    "cache_prompt": False,
}


def chat(messages: list[dict]) -> dict:
    prompt = ask("/apply-template", {"messages": messages})["prompt"]
    return {"kind": "chat", "messages": messages, **continued(prompt)}


def raw(prompt: str) -> dict:
    return {"kind": "raw", **continued(prompt)}


def continued(prompt: str) -> dict:
    """Greedy tokens after a prompt, with the runner-up and its distance at each step."""
    ids = tokens(prompt, add_special=True, parse_special=True)
    reply = ask("/completion", {**REQUEST, "prompt": ids})
    steps = [step["top_logprobs"] for step in reply["completion_probabilities"]]
    assert [step[0]["id"] for step in steps][: len(reply["tokens"])] == reply["tokens"]
    return {
        "prompt": prompt,
        "prompt_ids": ids,
        "tokens": reply["tokens"],
        "text": reply["content"],
        "stop_type": reply["stop_type"],
        "logprob": [round(step[0]["logprob"], 5) for step in steps],
        "second": [step[1]["id"] for step in steps],
        "gap": [round(step[0]["logprob"] - step[1]["logprob"], 5) for step in steps],
    }


def tokens(text: str, add_special: bool, parse_special: bool) -> list[int]:
    flags = {"add_special": add_special, "parse_special": parse_special}
    return ask("/tokenize", {"content": text, **flags})["tokens"]


def tokenised(special: list[str]) -> list[dict]:
    """Each string plainly; strings with special tokens both as text and as tokens."""
    flags = [(text, False, False) for text in [*TRICKY, *special]]
    flags += [(text, False, True) for text in special]
    flags += [(text, True, True) for text in ["Hello world", special[0]]]
    cases = []
    for text, add_special, parse_special in flags:
        ids = tokens(text, add_special, parse_special)
        case = {"text": text, "add_special": add_special, "parse_special": parse_special}
        cases.append({**case, "ids": ids, "detokenized": ask("/detokenize", {"tokens": ids})["content"]})
    return cases


def write(name: str, golden: dict) -> None:
    """One case a line."""
    cases = ",\n    ".join(json.dumps(case) for case in golden["cases"])
    head = "".join(f'  "{k}": {json.dumps(v)},\n' for k, v in golden.items() if k != "cases")
    Path(name).write_text(f'{{\n{head}  "cases": [\n    {cases}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
