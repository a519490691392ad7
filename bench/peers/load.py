"""A load of completions over HTTP, as many in flight as asked, prompts as token ids."""

import asyncio
import json
import random
import time


class LoadError(Exception):
    pass


async def request(port: int, method: str, path: str, body: dict | None = None) -> tuple[int, bytes]:
    """The status and the body of an answer; one connection for each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        data = json.dumps(body).encode() if body is not None else b""
        head = (f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n")
        writer.write(head.encode() + data)
        await writer.drain()
        status = int((await reader.readline()).split()[1])
        fields = {}
        while (line := (await reader.readline()).decode().strip()):
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        if "content-length" in fields:
            return status, await reader.readexactly(int(fields["content-length"]))
        if fields.get("transfer-encoding", "").lower() != "chunked":
            return status, await reader.read()
        parts = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readline()
        return status, b"".join(parts)
    finally:
        writer.close()


async def completion(port: int, model: str, prompt: list[int], output: int) -> None:
    status, answer = await request(port, "POST", "/v1/completions", {
        "model": model, "prompt": prompt, "max_tokens": output, "temperature": 0, "ignore_eos": True,
        "cache_prompt": False})  # the last is llama-server's; Octet has no such cache
    if status != 200:
        raise LoadError(f"status {status}: {answer[:100].decode(errors='replace')}")
    given = json.loads(answer)["usage"]["completion_tokens"]
    if given != output:
        raise LoadError(f"{given} tokens, not {output}")


async def ready(port: int, alive, limit: float) -> None:
    """Waits until /health answers 200."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        if not alive():
            raise LoadError("the server ended")
        try:
            if (await request(port, "GET", "/health"))[0] == 200:
                return
        except (OSError, IndexError, ValueError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(0.1)
    raise LoadError(f"not ready after {limit:.0f} s")


async def measure(port: int, model: str, vocabulary: int, alive, limit: float, *, requests=32, concurrency=16, prompt=128,
                  output=64) -> float:
    """Output tokens a second."""
    await ready(port, alive, limit)
    drawn = random.Random(0)

    def tokens() -> list[int]:
        return [drawn.randrange(300, vocabulary) for _ in range(prompt)]

    await completion(port, model, tokens(), 4)  # warms up
    waiting = [tokens() for _ in range(requests)]

    async def client() -> None:
        while waiting:
            await completion(port, model, waiting.pop(), output)

    begin = time.monotonic()
    async with asyncio.timeout(limit):
        await asyncio.gather(*(client() for _ in range(concurrency)))
    return requests * output / (time.monotonic() - begin)
