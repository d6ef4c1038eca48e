"""The web application of `kcharlm serve`: the model's page, and a JSON interface.

    GET  /health    -> {"status", "model"}
    POST /generate  {"prompt", "num", settings} -> {"texts": [{"text", "seed", ...}]}; with
                    "stream": true one text as server-sent events
    POST /score     {"texts"} -> {"scores": [{"characters", "bits", "bits_per_character"}]}

An error is {"error": a sentence} with a fitting status. Requests take turns: a model draws a piece
for one, then for another, so that neither a long text nor a slow client makes the others wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from keras_charlm.errors import CharLMError, OptionError, brief
from keras_charlm.generation.samples import LENGTH, LINE_LENGTH
from keras_charlm.saved.trained import TrainedModel

SETTINGS = (
    "temp",
    "length",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "stop",
    "num",
    "labels",
    "unknown_ok",
)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
Item = TypeVar("Item")


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Attributes:
        requests: Requests at once; further ones get status 503.
        body: Bytes of a request.
        seconds: Time in which a request has to arrive.
        prompt: Characters of a prompt, or of a text to score.
        drawn: Characters that a request may draw: `num` times `length`.
        texts: Texts that a request may draw or have scored.
    """

    requests: int = 250
    body: int = 100_000
    seconds: float = 10.0
    prompt: int = 5_000
    drawn: int = 10_000
    texts: int = 100


class Turns:
    """A model for one piece of work at a time, in a thread of its own.

    Args:
        model: The model; nobody else uses it.
    """

    def __init__(self, model: TrainedModel):
        self.model = model
        self._lock = asyncio.Lock()

    async def run(self, work: Callable[[], Item]) -> Item:
        """Do some work when those that asked before are done."""
        async with self._lock:
            return await run_in_threadpool(work)

    async def each(self, begin: Callable[[], Iterable[Item]]) -> AsyncIterator[Item]:
        """The items that an iterable makes, each in a turn of its own."""
        items = await self.run(lambda: iter(begin()))
        end: Any = object()
        while (item := await self.run(lambda: next(items, end))) is not end:
            yield item


def application(
    models: Sequence[TrainedModel],
    files: Mapping[str, bytes],
    hosts: Sequence[str],
    limits: Limits | None = None,
) -> Starlette:
    """Build the application.

    Args:
        models: The same model, opened once for each request to be worked on at the same time.
        files: The files of the model's page by name.
        hosts: Names of the server that requests may use, so that no other site's page can reach it.
        limits: What a request may ask for.
    """
    service = Service(models, files, limits or Limits())
    return Starlette(
        routes=[
            Route("/health", service.health),
            Route("/generate", service.generate, methods=["POST"]),
            Route("/score", service.score, methods=["POST"]),
            # No pattern for all files: it would match a GET of the addresses that take POST.
            *(Route(f"/{name}", service.page) for name in ("", *files)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={HTTPException: _refused, CharLMError: _refused},
    )


class Service:
    """Answers requests; the arguments are those of `application`."""

    def __init__(self, models: Sequence[TrainedModel], files: Mapping[str, bytes], limits: Limits):
        self._turns = [Turns(model) for model in models]
        self._files, self._limits = files, limits
        self._running = self._next = 0

    async def health(self, request: Request) -> Response:
        """Whether the server answers."""
        return JSONResponse({"status": "ok", "model": self._turns[0].model.card.name})

    async def page(self, request: Request) -> Response:
        """A file of the page."""
        name = request.url.path[1:] or "index.html"
        kind = TYPES.get(name[name.rfind(".") :], "application/octet-stream")
        return Response(self._files[name], media_type=kind, headers={"cache-control": "no-cache"})

    async def generate(self, request: Request) -> Response:
        """Draw texts, or stream one."""
        with self._admitted() as turns:
            values = await self._values(request, ("prompt", "stream", *SETTINGS))
            prompt, streamed = values.pop("prompt", ""), values.pop("stream", False)
            if not isinstance(prompt, str) or not isinstance(streamed, bool):
                raise OptionError("prompt takes a text, and stream takes true or false.")
            self._check(turns.model, prompt, values)
            if not streamed:
                samples = turns.each(lambda: turns.model.samples(prompt, **values))
                texts = [
                    {
                        "text": _text(sample.text),
                        "seed": sample.seed,
                        "bits_per_character": sample.bits_per_character,
                        "ended": sample.ended,
                    }
                    async for sample in samples
                ]
                return JSONResponse({"texts": texts})
            values = {"seed": secrets.randbelow(2**31), **values}
            values.pop("num", None)
            # Here, so that a wrong prompt gets a status of its own.
            pieces = await turns.run(lambda: turns.model.stream(prompt, **values))
        return StreamingResponse(
            self._events(turns, pieces, values["seed"]),
            media_type="text/event-stream",
            headers={"cache-control": "no-store"},
        )

    async def score(self, request: Request) -> Response:
        """Score texts, each from the beginning of a text."""
        with self._admitted() as turns:
            texts = (await self._values(request, ("texts",))).get("texts")
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise OptionError('A request to score is {"texts": [a text, ...]}.')
            if len(texts) > self._limits.texts:
                raise OptionError(f"Score at most {self._limits.texts} texts in a request.")
            for text in texts:
                self._check(turns.model, text, {})
            scores = [
                {
                    "characters": score.characters,
                    "bits": score.bits,
                    "bits_per_character": score.bits_per_character,
                }
                async for score in turns.each(lambda: turns.model.scores(texts))
            ]
        return JSONResponse({"scores": scores})

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[Turns]:
        """One of the models for a request, if there are not too many requests."""
        if self._running >= self._limits.requests:
            raise HTTPException(
                503, "Too many requests at once; ask again in a second.", {"retry-after": "1"}
            )
        self._running += 1
        self._next = (self._next + 1) % len(self._turns)
        try:
            yield self._turns[self._next]
        finally:
            self._running -= 1

    async def _values(self, request: Request, names: Sequence[str]) -> dict[str, Any]:
        """The JSON object that a request carries."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # pages of other sites cannot send it unasked
            raise HTTPException(415, "Send JSON, with the header content-type: application/json.")
        try:
            body = await asyncio.wait_for(self._body(request), self._limits.seconds)
        except (TimeoutError, ClientDisconnect):
            raise HTTPException(
                408, f"The request did not arrive within {self._limits.seconds:g} seconds."
            ) from None
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise HTTPException(400, "The request is not a JSON object.")
        if unknown := sorted(values.keys() - set(names)):
            raise OptionError(
                f"A request has {brief(repr(unknown[0]))}, and it takes {', '.join(names)}; "
                "leave it out."
            )
        return {name: value for name, value in values.items() if value is not None}

    async def _body(self, request: Request) -> bytes:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > self._limits.body:
                raise HTTPException(413, f"A request takes at most {self._limits.body:,} bytes.")
        return body

    def _check(self, model: TrainedModel, text: str, values: dict[str, Any]) -> None:
        """Raise an error if a request asks for too much."""
        if len(text) > self._limits.prompt:
            raise OptionError(
                f"A text has {len(text):,} characters; send at most {self._limits.prompt:,}."
            )
        num = values.get("num", 1)
        if isinstance(num, int) and "length" not in values:
            usual = model.card.line_limit or LINE_LENGTH if model.card.lines else LENGTH
            values["length"] = max(1, min(usual, self._limits.drawn // max(num, 1)))
        length = values.get("length")
        if not (isinstance(num, int) and isinstance(length, int)):
            return  # the settings' own check says it better
        if num > self._limits.texts or num * length > self._limits.drawn:
            raise OptionError(
                f"{num:,} texts of {length:,} characters were asked for; ask for at most "
                f"{self._limits.texts} texts and {self._limits.drawn:,} characters in all."
            )

    async def _events(
        self, turns: Turns, pieces: Iterable[str | bytes], seed: int
    ) -> AsyncIterator[str]:
        """A text as server-sent events: its pieces, then the seed."""
        self._running += 1
        try:
            async for piece in turns.each(lambda: pieces):
                yield f"data: {json.dumps({'text': _text(piece)})}\n\n"
        finally:
            self._running -= 1
        yield f"event: done\ndata: {json.dumps({'seed': seed})}\n\n"


def _text(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode("utf-8", "replace")


async def _refused(request: Request, error: Exception) -> Response:
    """An error as JSON."""
    if isinstance(error, HTTPException):
        taken = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        own = {404: "There is nothing at this address.", 405: f"This address takes only {taken}."}
        values = {"error": own.get(error.status_code, error.detail)}
        return JSONResponse(values, error.status_code, headers=dict(error.headers or {}))
    return JSONResponse({"error": str(error)}, 400)
