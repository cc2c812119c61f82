"""What callers and operators do with a running cluster, through its one port. Needs Python alone.

    python3 checks.py requests GATEWAYS | again | prometheus GATEWAY...

Owns: requests and what must come back. Never: starting or stopping anything.
"""

import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "testkit" / "python"))
from against_binary import write_lora  # noqa: E402

URL, KEY = os.environ["FIRMAMENT_URL"], os.environ["FIRMAMENT_API_KEY"]
PATIENCE_SECONDS = 45
PROMPT = [{"role": "user", "content": "Name three colours."}]


def call(path, body=None, *, key=KEY, content_type="application/json", url=URL):
    """The answer's status and text; a refusal is an answer too."""
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    headers = {"content-type": content_type} | ({"authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def good(path, body=None, **how):
    status, text = call(path, body, **how)
    assert status in (200, 201, 202), f"{path}: {status} {text[:300]}"
    return json.loads(text)


def until(what, condition):
    """The first truth that `condition` says."""
    deadline, last = time.monotonic() + PATIENCE_SECONDS, None
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except (AssertionError, OSError) as error:
            last = error
        time.sleep(0.25)
    sys.exit(f"it never came to be that {what}: {last}")


def chat(model="default", **more):
    body = {"model": model, "messages": PROMPT, "temperature": 0, "max_tokens": 12, **more}
    return good("/v1/chat/completions", body)["choices"][0]["message"]["content"]


def stream():
    """The text of a streamed answer, and how many reads brought it."""
    body = {"model": "default", "messages": PROMPT, "temperature": 0, "max_tokens": 40, "stream": True, "ignore_eos": True}
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(URL + "/v1/chat/completions", json.dumps(body).encode(), headers)
    text, reads = "", 0
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        while piece := reply.read1(1 << 16):
            reads += 1
            text += piece.decode()
    events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", events[-1]
    return "".join((json.loads(event)["choices"] or [{"delta": {}}])[0]["delta"].get("content") or "" for event in events[:-1]), reads


def send(path, fields, files):
    """A form as browsers send it: `fields` by name, `files` as (field, name, bytes)."""
    mark = uuid.uuid4().hex
    heads = [(f'name="{name}"', text.encode()) for name, text in fields.items()]
    heads += [(f'name="{field}"; filename="{name}"', data) for field, name, data in files]
    parts = [f"--{mark}\r\ncontent-disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n" for head, data in heads]
    body = b"".join(parts) + f"--{mark}--\r\n".encode()
    return good(path, body, content_type=f"multipart/form-data; boundary={mark}")


def upload(name):
    with tempfile.TemporaryDirectory() as folder:
        lora = Path(folder, "lora")
        write_lora(lora)
        files = [("files", file.name, file.read_bytes()) for file in sorted(lora.iterdir())]
    return send("/v1/adapters", {"name": name}, files)


def job():
    """A file of three questions, the job that answers them, and the file of answers."""
    body = {"model": "default", "messages": PROMPT, "temperature": 0, "max_tokens": 4}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    names = ["a", "b", "c"]
    lines = "\n".join(json.dumps({"custom_id": name, **line}) for name in names)
    file = send("/v1/files", {"purpose": "batch"}, [("file", "lines.jsonl", lines.encode())])
    made = good("/v1/jobs", {"kind": "bulk", "input_file_id": file["id"]})
    over = {"succeeded", "failed", "cancelled", "dead"}
    done = until("the job ends", lambda: (found := good(f"/v1/jobs/{made['id']}"))["state"] in over and found)
    assert done["state"] == "succeeded", done
    status, answers = call(f"/v1/files/{done['result']['output_file_id']}/content")
    answered = [json.loads(answer) for answer in answers.splitlines()]
    assert status == 200 and sorted(answer["custom_id"] for answer in answered) == names, answers
    assert all(answer["response"]["status_code"] == 200 for answer in answered), answers
    print("jobs: one was sent, and its answers came back in a file")


def requests(gateways):
    assert call("/v1/models", key=None)[0] == 401, "without a key nobody is let in"
    assert call("/metrics")[0] == 404, "metrics are not for the public port"
    said = chat()
    streamed, reads = stream()
    assert streamed.startswith(said) and reads > 3, f"{said!r} {streamed!r}, {reads} reads: is something buffering?"
    nodes = until("both nodes are alive", lambda: (found := alive()) and len(found) == 2 and found)
    assert {node["kind"] for node in nodes} == {"worker", "device"}, nodes
    upload("odd")
    until("the adapter changes the answer", lambda: chat("odd") != said)
    job()
    # Both gateways must answer for everything: the proxy gives each of these to the next.
    for _ in range(4 * gateways):
        assert chat() == said and chat("odd") != said and len(alive()) == 2
    print(f"requests through {gateways} gateway(s): chat {said!r}, {reads} reads of a stream, an adapter")


def alive():
    return [node for node in good("/v1/nodes")["data"] if node["state"] == "alive"]


def again():
    said = until("a chat is answered", chat)
    until("the adapter is still there", lambda: chat("odd") != said)
    until("both nodes are alive", lambda: len(alive()) == 2)


def query(expression):
    path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    return good(path, key=None, url=os.environ["PROMETHEUS_URL"])["data"]["result"]


def prometheus(gateways):
    for gateway in gateways:
        until(f"{gateway} is scraped", lambda: up(f'up{{job="firmament-gateway",instance="{gateway}:8080"}}'))
    until("the scheduler is scraped", lambda: up('up{job="firmament-scheduler"}'))
    for kind in ("worker", "device"):
        until(f"the {kind} is scraped", lambda: up(f'firmament_node_linked{{job="firmament-nodes",kind="{kind}"}}'))
    until("the proxy is scraped", lambda: up('up{job="proxy"}'))
    until("a metric of ours has data", lambda: query('sum({__name__=~"firmament_.*_total"}) > 0'))
    down = query("up == 0")
    names = {series["metric"]["instance"].split(":")[0] for series in down}
    assert not names & set(gateways), down
    print(f"Prometheus: {', '.join(gateways)} up, and firmament's metrics have data")


def up(expression):
    found = query(expression)
    return found and found[0]["value"][1] == "1"


match sys.argv[1:]:
    case ["requests", gateways]:
        requests(int(gateways))
    case ["again"]:
        again()
    case ["prometheus", *gateways]:
        prometheus(gateways)
    case _:
        sys.exit(__doc__)
