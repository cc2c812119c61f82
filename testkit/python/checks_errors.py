"""Refusals: the right exception class, naming the parameter at fault."""

import openai

from checks_structured import TOOLS
from target import Target


def an_unknown_model_is_not_found(target: Target) -> None:
    calls = [
        lambda: target.chat(model="no-such-model"),
        lambda: target.chat(model="no-such-model", stream=True),
        lambda: target.complete(model="no-such-model"),
        lambda: target.embed("text", model="no-such-model"),
    ]
    for call in calls:
        error = refused(openai.NotFoundError, call)
        assert (error.code, error.param) == ("model_not_found", "model"), error
        assert error.type == "invalid_request_error", error
    missing = refused(
        openai.NotFoundError, lambda: target.client.models.retrieve("no-such-model")
    )
    assert missing.code == "model_not_found", missing


def a_bad_value_is_named(target: Target) -> None:
    bad = {
        "temperature": 3,
        "top_p": 1.5,
        "n": 1000,
        "messages": [],
        "max_completion_tokens": -1,
        "presence_penalty": 9,
        "tool_choice": {"type": "function", "function": {"name": "absent"}},
    }
    for name, value in bad.items():
        more = {"tools": TOOLS} if name == "tool_choice" else {}
        error = refused(openai.BadRequestError, lambda: target.chat(**{**more, name: value}))
        assert error.param and error.param.split(".")[0].split("[")[0] == name, (name, error)
        assert error.type == "invalid_request_error", error


def an_unsupported_field_is_named(target: Target) -> None:
    audio = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
    error = refused(openai.BadRequestError, lambda: target.chat(**audio))
    assert error.param in ("modalities", "audio"), error


def an_unknown_field_is_named(target: Target) -> None:
    call = lambda: target.chat(extra_body={"no_such_field": 1})  # noqa: E731
    error = refused(openai.BadRequestError, call)
    assert error.param == "no_such_field", error


def a_refusal_has_a_request_id(target: Target) -> None:
    error = refused(openai.BadRequestError, lambda: target.chat(temperature=3))
    assert error.request_id, error


def refused(kind: type[openai.APIStatusError], call) -> openai.APIStatusError:
    """The error that `call` raised; fails if it raised none of this kind."""
    try:
        reply = call()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {reply!r}")


CHECKS = [
    an_unknown_model_is_not_found,
    a_bad_value_is_named,
    an_unsupported_field_is_named,
    an_unknown_field_is_named,
    a_refusal_has_a_request_id,
]
