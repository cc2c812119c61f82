"""Chat completions, models and request ids, as the openai client sees them."""

from target import QUESTION, Skipped, Target, parent


def models_are_listed_and_retrieved(target: Target) -> None:
    listed = [model.id for model in target.client.models.list()]
    assert target.model in listed, listed
    one = target.client.models.retrieve(target.model)
    assert (one.id, one.object) == (target.model, "model"), one
    assert one.created > 0 and one.owned_by, one


def a_chat_has_the_published_shape(target: Target) -> None:
    reply = target.chat()
    assert reply.id.startswith("chatcmpl-") and reply.object == "chat.completion", reply
    assert reply.model == target.model and reply.created > 0, reply
    assert [choice.index for choice in reply.choices] == [0], reply
    assert reply.choices[0].message.role == "assistant", reply
    assert reply.choices[0].message.content.strip(), reply
    assert reply.choices[0].finish_reason in ("stop", "length"), reply
    usage = reply.usage
    assert usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= 24, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage


def the_token_limit_ends_with_length(target: Target) -> None:
    reply = target.chat(max_completion_tokens=3)
    assert reply.choices[0].finish_reason == "length", reply
    assert reply.usage.completion_tokens == 3, reply.usage
    old_name = target.chat(max_completion_tokens=None, max_tokens=3)
    assert old_name.choices[0].message.content == reply.choices[0].message.content, old_name


def a_longer_conversation_is_longer(target: Target) -> None:
    system = [{"role": "system", "content": "You answer in one word."}]
    turns = [{"role": "assistant", "content": "Red."}, {"role": "user", "content": "Another?"}]
    short, long = target.chat(), target.chat(messages=[*system, *QUESTION, *turns])
    assert long.usage.prompt_tokens > short.usage.prompt_tokens, (short.usage, long.usage)


def content_parts_equal_plain_text(target: Target) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": QUESTION[0]["content"]}]}]
    assert target.text(messages=parts) == target.text()


def a_stream_carries_the_text_of_the_whole_reply(target: Target) -> None:
    chunks = list(target.chat(stream=True))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].model == target.model
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    whole = target.chat()
    assert streamed(chunks) == whole.choices[0].message.content
    ends = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert ends == [whole.choices[0].finish_reason], ends
    assert sum(bool(streamed([chunk])) for chunk in chunks) > 1, "the text came in one piece"
    assert all(chunk.usage is None for chunk in chunks)


def a_stream_can_end_with_usage(target: Target) -> None:
    *chunks, last = target.chat(stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage is not None, last
    assert all(chunk.usage is None for chunk in chunks)
    whole = target.chat().usage
    assert last.usage.prompt_tokens == whole.prompt_tokens, (last.usage, whole)
    assert last.usage.completion_tokens == whole.completion_tokens, (last.usage, whole)


def two_choices_are_two_samples(target: Target) -> None:
    story = [{"role": "user", "content": "Tell me a long story about the sea."}]
    reply = target.chat(messages=story, n=2, temperature=1.5, seed=11, max_completion_tokens=12)
    assert [choice.index for choice in reply.choices] == [0, 1], reply
    first, second = (choice.message.content for choice in reply.choices)
    assert first != second, "two samples at temperature 1.5 are equal"
    assert 12 < reply.usage.completion_tokens <= 24, reply.usage  # of both


def a_seed_repeats_its_sample(target: Target) -> None:
    samples = [target.text(temperature=1.2, seed=seed) for seed in (1, 1, 2, 3, 4)]
    assert samples[0] == samples[1], samples[:2]
    assert len(set(samples)) > 1, "the seed changes nothing"


def a_stop_string_ends_the_text_before_it(target: Target) -> None:
    whole = target.text()
    middle = len(whole) // 2
    stop = whole[middle : middle + 4]
    reply = target.chat(stop=[stop])
    assert reply.choices[0].message.content == whole[: whole.index(stop)], (whole, stop)
    assert reply.choices[0].finish_reason == "stop", reply
    assert streamed(target.chat(stop=[stop], stream=True)) == reply.choices[0].message.content


def logprobs_describe_each_token(target: Target) -> None:
    choice = target.chat(logprobs=True, top_logprobs=3).choices[0]
    tokens = choice.logprobs.content
    content = choice.message.content.encode()
    assert b"".join(bytes(token.bytes) for token in tokens).startswith(content), tokens
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3, token
        ranked = [other.logprob for other in token.top_logprobs]
        assert ranked == sorted(ranked, reverse=True), token
        assert token.token == token.top_logprobs[0].token, "greedy took another token"
        assert abs(token.logprob - ranked[0]) < 1e-4, token
    assert target.chat().choices[0].logprobs is None


def a_bias_forces_or_forbids_a_token(target: Target) -> None:
    forced = target.chat(logit_bias={"1000": 100}, logprobs=True, max_completion_tokens=5)
    tokens = [token.token for token in forced.choices[0].logprobs.content]
    assert len(tokens) == 5 and len(set(tokens)) == 1, tokens
    plain = target.chat(logprobs=True, max_completion_tokens=5).choices[0].logprobs.content
    assert [token.token for token in plain] != tokens


def a_request_id_is_made_or_echoed(target: Target) -> None:
    raw = target.client.chat.completions.with_raw_response
    request = {"model": target.model, "messages": QUESTION, "max_completion_tokens": 1}
    assert raw.create(**request).headers["x-request-id"]
    given = {"x-request-id": "check-0001"}
    assert raw.create(**request, extra_headers=given).headers["x-request-id"] == "check-0001"


def an_adapter_answers_by_its_own_name(target: Target) -> None:
    if target.adapter is None:
        raise Skipped("FIRMAMENT_TEST_ADAPTER names no adapter")
    assert target.chat(model=target.adapter).model == target.adapter
    assert parent(target.client.models.retrieve(target.adapter)) == target.model
    prompts = ["Say hello.", "What is two plus two?", "Write a line about rain."]
    asked = [[{"role": "user", "content": prompt}] for prompt in prompts]
    adapted = [target.text(model=target.adapter, messages=messages) for messages in asked]
    plain = [target.text(messages=messages) for messages in asked]
    assert adapted != plain, "the adapter changes nothing"


def streamed(chunks) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


CHECKS = [
    models_are_listed_and_retrieved,
    a_chat_has_the_published_shape,
    the_token_limit_ends_with_length,
    a_longer_conversation_is_longer,
    content_parts_equal_plain_text,
    a_stream_carries_the_text_of_the_whole_reply,
    a_stream_can_end_with_usage,
    two_choices_are_two_samples,
    a_seed_repeats_its_sample,
    a_stop_string_ends_the_text_before_it,
    logprobs_describe_each_token,
    a_bias_forces_or_forbids_a_token,
    a_request_id_is_made_or_echoed,
    an_adapter_answers_by_its_own_name,
]
