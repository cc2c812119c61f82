"""JSON replies and tool calls: what comes back must fit the schema that was asked for."""

import json
from typing import Literal

import openai
from pydantic import BaseModel, ConfigDict

from target import Target


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Size(Strict):
    unit: Literal["cm", "inch"]
    large: bool


class Shape(Strict):
    """Only choices and flags, so that even a very small model comes to an end."""

    colour: Literal["red", "green", "blue"]
    sides: Literal[3, 4, 6]
    size: Size


class Weather(Strict):
    city: Literal["Paris", "Rome", "Oslo"]
    unit: Literal["celsius", "fahrenheit"]


class Lamp(Strict):
    room: Literal["kitchen", "bedroom"]
    on: bool


LAMP = openai.pydantic_function_tool(Lamp, name="set_lamp", description="Switch a lamp.")
TOOLS = [
    openai.pydantic_function_tool(Weather, name="get_weather", description="Weather of a city."),
    LAMP,
]
ARGUMENTS = {"get_weather": Weather, "set_lamp": Lamp}
ASKED = {
    "messages": [{"role": "user", "content": "How warm is it in Rome, in celsius?"}],
    "tools": TOOLS,
    "max_completion_tokens": 128,
}
NAMED = {"type": "function", "function": {"name": "set_lamp"}}


def json_object_gives_an_object(target: Target) -> None:
    messages = [{"role": "user", "content": 'Reply with this JSON object: {"answer": 42}'}]
    choice = target.chat(
        messages=messages, response_format={"type": "json_object"}, max_completion_tokens=256
    ).choices[0]
    assert choice.message.content.lstrip().startswith("{"), choice
    if choice.finish_reason == "stop":  # a small model may not close it in time
        assert isinstance(json.loads(choice.message.content), dict), choice
    else:
        assert choice.finish_reason == "length", choice


def json_schema_is_parsed_by_the_client(target: Target) -> None:
    messages = [{"role": "user", "content": "Describe a small red triangle measured in cm."}]
    request = {"model": target.model, "messages": messages, "max_completion_tokens": 256}
    for temperature in (0, 1.5):
        reply = target.client.chat.completions.parse(
            **request, temperature=temperature, seed=3, response_format=Shape
        )
        assert reply.choices[0].finish_reason == "stop", reply
        assert isinstance(reply.choices[0].message.parsed, Shape), reply
        assert reply.choices[0].message.refusal is None, reply


def json_schema_streams_the_same_text(target: Target) -> None:
    shape = {"name": "shape", "strict": True, "schema": strict_schema(Shape)}
    request = {
        "response_format": {"type": "json_schema", "json_schema": shape},
        "max_completion_tokens": 256,
    }
    chunks = target.chat(**request, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    Shape.model_validate_json(text)
    assert text == target.text(**request)


def a_required_tool_is_called(target: Target) -> None:
    choice = target.chat(**ASKED, tool_choice="required").choices[0]
    assert choice.finish_reason == "tool_calls", choice
    assert choice.message.tool_calls, choice
    for call in choice.message.tool_calls:
        assert call.id and call.type == "function", call
        ARGUMENTS[call.function.name].model_validate_json(call.function.arguments)


def a_named_tool_is_called(target: Target) -> None:
    choice = target.chat(**ASKED, tool_choice=NAMED).choices[0]
    assert choice.finish_reason in ("tool_calls", "stop"), choice  # servers differ here
    (call,) = choice.message.tool_calls
    assert call.function.name == "set_lamp", call
    Lamp.model_validate_json(call.function.arguments)


def no_tool_is_called_when_forbidden(target: Target) -> None:
    message = target.chat(**ASKED, tool_choice="none").choices[0].message
    assert not message.tool_calls and message.content, message


def a_tool_call_streams_in_pieces(target: Target) -> None:
    name, arguments, finish = "", "", None
    for chunk in target.chat(**ASKED, tool_choice=NAMED, stream=True):
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for piece in choice.delta.tool_calls or []:
                assert piece.index == 0, piece
                name += piece.function.name or ""
                arguments += piece.function.arguments or ""
    assert name == "set_lamp" and finish in ("tool_calls", "stop"), (name, finish)
    Lamp.model_validate_json(arguments)
    whole = target.chat(**ASKED, tool_choice=NAMED).choices[0].message.tool_calls[0]
    assert arguments == whole.function.arguments


def a_strict_tool_may_be_called_or_not(target: Target) -> None:
    assert all(tool["function"]["strict"] for tool in TOOLS)
    for choice in ({}, {"tool_choice": "auto"}):
        reply = target.chat(**ASKED, **choice).choices[0]
        calls = reply.message.tool_calls or []
        assert calls or reply.message.content, reply
        assert (reply.finish_reason == "tool_calls") == bool(calls) or (
            reply.finish_reason == "length"
        ), reply
        if reply.finish_reason != "length":  # else the last call may be cut off
            for call in calls:
                ARGUMENTS[call.function.name].model_validate_json(call.function.arguments)


def an_answer_beside_strict_tools_streams_the_same_text(target: Target) -> None:
    asked = {**ASKED, "messages": [{"role": "user", "content": "Say hello."}]}
    message = target.chat(**asked).choices[0].message
    text, arguments = "", ""
    for chunk in target.chat(**asked, stream=True):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            arguments += "".join(c.function.arguments or "" for c in choice.delta.tool_calls or [])
    assert text == (message.content or ""), (text, message)
    assert arguments == "".join(c.function.arguments for c in message.tool_calls or []), message


def tools_and_a_json_schema_go_together(target: Target) -> None:
    reply = target.client.chat.completions.parse(
        model=target.model,
        messages=[{"role": "user", "content": "Switch the lamp on."}],
        tools=[LAMP],
        temperature=0,
        max_completion_tokens=256,
        response_format=Shape,
    ).choices[0]
    calls = reply.message.tool_calls or []
    for call in calls:
        assert isinstance(call.function.parsed_arguments, ARGUMENTS[call.function.name]), call
    assert calls or isinstance(reply.message.parsed, Shape), reply


def a_tool_result_is_taken_back(target: Target) -> None:
    message = target.chat(**ASKED, tool_choice="required").choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": "21"} for call in message.tool_calls
    ]
    turns = [*ASKED["messages"], message.model_dump(exclude_none=True), *results]
    reply = target.chat(**{**ASKED, "messages": turns}, tool_choice="none")
    assert reply.choices[0].message.content, reply
    before = target.chat(**ASKED, tool_choice="none").usage
    assert reply.usage.prompt_tokens > before.prompt_tokens, (reply.usage, before)


def functions_are_called_in_the_older_form(target: Target) -> None:
    asked = {
        "messages": ASKED["messages"],
        "functions": [tool["function"] for tool in TOOLS],
        "function_call": {"name": "set_lamp"},
        "max_completion_tokens": 128,
    }
    choice = target.chat(**asked).choices[0]
    assert choice.finish_reason in ("function_call", "stop"), choice  # servers differ here
    assert choice.message.function_call.name == "set_lamp" and not choice.message.tool_calls, choice
    Lamp.model_validate_json(choice.message.function_call.arguments)
    pieces = [chunk.choices[0].delta.function_call for chunk in target.chat(**asked, stream=True)]
    streamed = "".join(piece.arguments or "" for piece in pieces if piece)
    assert streamed == choice.message.function_call.arguments, (streamed, choice)
    result = {"role": "function", "name": "set_lamp", "content": "done"}
    turns = [*ASKED["messages"], choice.message.model_dump(exclude_none=True), result]
    reply = target.chat(**{**asked, "messages": turns, "function_call": "none"})
    assert reply.choices[0].message.content, reply


def strict_schema(model: type[BaseModel]) -> dict:
    return openai.pydantic_function_tool(model)["function"]["parameters"]


CHECKS = [
    json_object_gives_an_object,
    json_schema_is_parsed_by_the_client,
    json_schema_streams_the_same_text,
    a_required_tool_is_called,
    a_named_tool_is_called,
    no_tool_is_called_when_forbidden,
    a_tool_call_streams_in_pieces,
    a_strict_tool_may_be_called_or_not,
    an_answer_beside_strict_tools_streams_the_same_text,
    tools_and_a_json_schema_go_together,
    a_tool_result_is_taken_back,
    functions_are_called_in_the_older_form,
]
