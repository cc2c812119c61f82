"""Legacy completions and embeddings."""

import base64
import math
import struct

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


def an_echoed_prompt_has_logprobs_as_if_it_was_drawn(target: Target) -> None:
    drawn = target.complete(logprobs=2).choices[0]
    text = "The capital of France is" + drawn.text
    scored = target.complete(prompt=text, echo=True, logprobs=2, max_tokens=0).choices[0]
    told = scored.logprobs
    assert scored.text == text and "".join(told.tokens) == text, scored
    assert told.token_logprobs[0] is None and told.top_logprobs[0] is None, told
    assert all(text[at:].startswith(token) for at, token in zip(told.text_offset, told.tokens)), told
    ends = told.token_logprobs[-len(drawn.logprobs.tokens) :]
    assert ends == drawn.logprobs.token_logprobs, (ends, drawn.logprobs)


def a_harness_finds_the_likelier_continuation(target: Target) -> None:
    context = "The capital of France is"

    def score(continuation: str) -> float:
        reply = target.complete(prompt=context + continuation, echo=True, logprobs=1, max_tokens=1)
        told = reply.choices[0].logprobs
        # As lm-evaluation-harness does it: what follows the context, without the one drawn token.
        first = next(i for i, at in enumerate(told.text_offset) if at >= len(context))
        return sum(told.token_logprobs[first:-1])

    assert score(" Paris") > score(" Rome"), (score(" Paris"), score(" Rome"))


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
    an_echoed_prompt_has_logprobs_as_if_it_was_drawn,
    a_harness_finds_the_likelier_continuation,
    a_list_of_prompts_gives_a_choice_each,
    embeddings_are_unit_vectors_in_order,
    like_texts_are_nearer_than_unlike_ones,
    base64_embeddings_hold_the_same_numbers,
]
