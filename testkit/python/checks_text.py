"""Legacy completions and embeddings."""

import base64
import math
import struct

import openai
from target import Target

# The same first word: a causal model's mean leans on its first token. Known margin: 0.27 or more.
ALIKE = ["The cat sat on the mat in the kitchen.", "The kitten lay on the rug in the kitchen."]
OTHER = "The central bank raised interest rates by half a percent."


def a_completion_has_the_published_shape(target: Target) -> None:
    reply = target.complete()
    assert reply.id.startswith("cmpl-") and reply.object == "text_completion", reply
    assert reply.model == target.model and reply.choices[0].index == 0, reply
    assert reply.choices[0].text and reply.choices[0].finish_reason in ("stop", "length"), reply
    usage = reply.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage


def echo_repeats_the_prompt(target: Target) -> None:
    prompt = "The capital of France is"
    plain, echoed = target.complete(), target.complete(echo=True)
    assert echoed.choices[0].text == prompt + plain.choices[0].text, echoed


def a_completion_streams_the_same_text(target: Target) -> None:
    chunks = list(target.complete(stream=True))
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert text == target.complete().choices[0].text
    assert {chunk.object for chunk in chunks} == {"text_completion"}


def completion_logprobs_fit_the_tokens(target: Target) -> None:
    choice = target.complete(logprobs=2).choices[0]
    told = choice.logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs), told
    assert len(told.text_offset) == len(told.tokens), told
    assert all(logprob <= 0 for logprob in told.token_logprobs), told
    assert all(len(top) >= 2 for top in told.top_logprobs), told
    assert "".join(told.tokens).startswith(choice.text), told


def logprobs_of_an_echoed_prompt_are_refused_by_name(target: Target) -> None:
    try:
        target.complete(echo=True, logprobs=1)
    except openai.BadRequestError as error:
        assert error.param in ("echo", "logprobs"), error.body
    else:
        raise AssertionError("the prompt's log-probabilities were left out in silence")


def a_list_of_prompts_gives_a_choice_each(target: Target) -> None:
    prompts = ["One, two, three,", "The sky is"]
    reply = target.complete(prompt=prompts)
    assert [choice.index for choice in reply.choices] == [0, 1], reply
    alone = [target.complete(prompt=prompt).choices[0].text for prompt in prompts]
    assert [choice.text for choice in reply.choices] == alone, (reply, alone)


def embeddings_are_unit_vectors_in_order(target: Target) -> None:
    vectors = target.embed([*ALIKE, OTHER], encoding_format="float")
    assert len(vectors) == 3 and len({len(vector) for vector in vectors}) == 1
    for vector in vectors:
        assert abs(math.hypot(*vector) - 1) < 1e-3, math.hypot(*vector)
    (alone,) = target.embed(OTHER, encoding_format="float")
    assert dot(alone, vectors[2]) > 0.99, dot(alone, vectors[2])  # neighbours change nothing


def like_texts_are_nearer_than_unlike_ones(target: Target) -> None:
    first, second, other = target.embed([*ALIKE, OTHER], encoding_format="float")
    unlike = max(dot(first, other), dot(second, other))
    assert dot(first, second) > unlike + 0.1, (dot(first, second), unlike)


def base64_embeddings_hold_the_same_numbers(target: Target) -> None:
    (plain,) = target.embed(OTHER, encoding_format="float")
    (packed,) = target.embed(OTHER, encoding_format="base64")
    raw = base64.b64decode(packed)
    assert len(raw) == 4 * len(plain), (len(raw), len(plain))
    unpacked = struct.unpack(f"<{len(plain)}f", raw)
    assert all(abs(a - b) < 1e-5 for a, b in zip(plain, unpacked)), "the two encodings differ"
    (default,) = target.embed(OTHER)  # the client asks for base64 and decodes it
    assert len(default) == len(plain)


def dot(left, right) -> float:
    return sum(a * b for a, b in zip(left, right))


CHECKS = [
    a_completion_has_the_published_shape,
    echo_repeats_the_prompt,
    a_completion_streams_the_same_text,
    completion_logprobs_fit_the_tokens,
    logprobs_of_an_echoed_prompt_are_refused_by_name,
    a_list_of_prompts_gives_a_choice_each,
    embeddings_are_unit_vectors_in_order,
    like_texts_are_nearer_than_unlike_ones,
    base64_embeddings_hold_the_same_numbers,
]
