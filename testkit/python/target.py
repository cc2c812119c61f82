"""The server under test, and the small calls that every group of checks makes.

Owns: the client and the names of the models. Never: assertions.
"""

import os
from functools import cached_property

import openai

QUESTION = [{"role": "user", "content": "Name three colours of the rainbow."}]


class Skipped(Exception):
    """A check that this server was not set up for."""


class Target:
    """One running server, from the environment. Retries are off: a failure must show."""

    def __init__(self) -> None:
        self.client = openai.OpenAI(
            base_url=os.environ["FIRMAMENT_BASE_URL"],
            api_key=os.environ.get("FIRMAMENT_API_KEY", "any"),
            max_retries=0,
            timeout=180.0,
        )
        self.adapter = os.environ.get("FIRMAMENT_TEST_ADAPTER")

    @cached_property
    def model(self) -> str:
        """FIRMAMENT_TEST_MODEL, or the first model of the list that is no adapter."""
        named = os.environ.get("FIRMAMENT_TEST_MODEL")
        return named or next(m.id for m in self.client.models.list() if not parent(m))

    def chat(self, **more):
        """A greedy chat of at most 24 tokens, unless told otherwise."""
        request = {"model": self.model, "messages": QUESTION, "temperature": 0}
        limit = {"max_completion_tokens": 24}
        return self.client.chat.completions.create(**{**request, **limit, **more})

    def text(self, **more) -> str:
        return self.chat(**more).choices[0].message.content

    def complete(self, **more):
        """A greedy legacy completion of at most 16 tokens, unless told otherwise."""
        request = {"model": self.model, "prompt": "The capital of France is", "temperature": 0}
        return self.client.completions.create(**{**request, "max_tokens": 16, **more})

    def embed(self, texts, **more) -> list:
        request = {"model": self.model, "input": texts, **more}
        return [item.embedding for item in self.client.embeddings.create(**request).data]


def parent(model) -> str | None:
    """The base of an adapter's card; none for a base."""
    return (model.model_extra or {}).get("parent")
