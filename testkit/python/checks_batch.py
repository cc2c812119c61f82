"""Files and batches."""

import json
import time

import openai
from target import Target

PATIENCE_SECONDS = 120
OVER = ("completed", "failed", "cancelled", "expired")


def lines(target: Target, count: int = 3) -> bytes:
    body = {"model": target.model, "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
    requests = (
        {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/completions", "body": body}
        for number in range(count)
    )
    return "\n".join(map(json.dumps, requests)).encode()


def upload(target: Target, content: bytes, purpose: str = "batch"):
    return target.client.files.create(file=("input.jsonl", content), purpose=purpose)


def over(target: Target, batch):
    until = time.monotonic() + PATIENCE_SECONDS
    while batch.status not in OVER:
        assert time.monotonic() < until, batch
        time.sleep(0.1)
        batch = target.client.batches.retrieve(batch.id)
    return batch


def a_file_is_kept_listed_read_and_deleted(target: Target) -> None:
    content = b"\x00any bytes\xff"
    file = upload(target, content, "user_data")
    assert file.id.startswith("file-") and file.object == "file", file
    assert file.bytes == len(content) and file.filename == "input.jsonl", file
    assert target.client.files.retrieve(file.id).id == file.id
    assert file.id in [listed.id for listed in target.client.files.list(purpose="user_data")]
    assert target.client.files.content(file.id).read() == content
    assert target.client.files.delete(file.id).deleted
    try:
        target.client.files.retrieve(file.id)
    except openai.NotFoundError:
        return
    raise AssertionError("a deleted file is still there")


def a_file_may_expire(target: Target) -> None:
    after = {"anchor": "created_at", "seconds": 3600}
    file = target.client.files.create(file=("x", b"x"), purpose="user_data", expires_after=after)
    assert file.expires_at == file.created_at + 3600, file
    target.client.files.delete(file.id)


def a_batch_answers_each_line(target: Target) -> None:
    source = upload(target, lines(target))
    batch = target.client.batches.create(
        input_file_id=source.id,
        endpoint="/v1/completions",
        completion_window="24h",
        metadata={"for": "a check"},
    )
    assert batch.object == "batch" and batch.metadata == {"for": "a check"}, batch
    batch = over(target, batch)
    assert batch.status == "completed" and batch.error_file_id is None, batch
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (3, 3, 0), counts
    answers = [json.loads(line) for line in target.client.files.content(batch.output_file_id).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["line-0", "line-1", "line-2"], answers
    alone = target.complete(max_tokens=4).choices[0].text
    for answer in answers:
        assert answer["response"]["status_code"] == 200 and answer["error"] is None, answer
        assert answer["response"]["body"]["choices"][0]["text"] == alone, answer
    assert batch.id in [listed.id for listed in target.client.batches.list(limit=5)]


def a_faulty_line_fails_a_batch_by_its_number(target: Target) -> None:
    source = upload(target, lines(target, 1) + b"\n{}")
    batch = target.client.batches.create(
        input_file_id=source.id, endpoint="/v1/completions", completion_window="24h"
    )
    batch = over(target, batch)
    assert batch.status == "failed" and batch.errors.data[0].line == 2, batch


def a_batch_that_is_over_stays_as_it_is_when_cancelled(target: Target) -> None:
    source = upload(target, lines(target, 1))
    batch = target.client.batches.create(
        input_file_id=source.id, endpoint="/v1/completions", completion_window="24h"
    )
    over(target, batch)
    assert target.client.batches.cancel(batch.id).status == "completed"


def one_key_is_one_batch(target: Target) -> None:
    source = upload(target, lines(target, 1))
    key = {"Idempotency-Key": f"check-{source.id}"}
    ask = {"input_file_id": source.id, "completion_window": "24h", "extra_headers": key}
    one = target.client.batches.create(endpoint="/v1/completions", **ask)
    again = target.client.batches.create(endpoint="/v1/completions", **ask)
    assert one.id == again.id, (one, again)
    try:
        target.client.batches.create(endpoint="/v1/embeddings", **ask)
    except openai.UnprocessableEntityError as refusal:
        assert refusal.code == "idempotency_key_reused", refusal
        return
    raise AssertionError("the key made another batch")


CHECKS = [
    a_file_is_kept_listed_read_and_deleted,
    a_file_may_expire,
    a_batch_answers_each_line,
    a_faulty_line_fails_a_batch_by_its_number,
    a_batch_that_is_over_stays_as_it_is_when_cancelled,
    one_key_is_one_batch,
]
