"""WebSocket by websockets: `serve HOST PORT`, or `ask HOST PORT`.

A line per call: who begins, kind, bytes of the message (`-` where it is compressed), and its head: of a text as JSON,
of what is binary in hexadecimal digits. Of a close, the code.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

# Compresses well, is longer than a frame of 16 bits, and beyond ASCII.
TEXTS = ["", "a", "ä" * 50, "text " * 200, "line\n" * 20_000]
BINARY = [b"", b"\x00\xff" * 10, bytes(range(256)) * 300]


async def answer(socket):
    try:
        async for message in socket:
            if message == "close":
                await socket.close(1011, "as it was told")
                return
            if message == "ping":
                await (await socket.ping(b"from the server"))
            else:
                await socket.send(message)
    except ConnectionClosed:
        pass


async def listen(host, port):
    async with serve(answer, host, int(port), ping_interval=None) as server:
        await server.serve_forever()


async def ask(host, port):
    for compression in ["deflate", None]:
        uri = f"ws://{host}:{port}/chat/{compression or 'plain'}?asked=yes"

        def said(who, message):
            if isinstance(message, str):
                kind, length, head = "text", len(message.encode()), json.dumps(message[:30], ensure_ascii=False)
            else:
                kind, length, head = "binary", len(message), message[:30].hex()
            print(who, kind, "-" if compression else length, head)

        async def echoed(socket, message, whole):
            await socket.send(message)
            said("client", whole)
            said("server", await socket.recv())

        async with connect(uri, compression=compression, ping_interval=None) as socket:
            for _ in range(10):
                for message in TEXTS + BINARY:
                    await echoed(socket, message, message)
                await (await socket.ping(b"from the client"))
                print("client ping")
            # In fragments.
            await echoed(socket, iter(["one ", "two ", "three"]), "one two three")
            await socket.send("ping")
            said("client", "ping")
            # The pong is sent while this waits for its answer.
            await echoed(socket, "after", "after")
            print("server ping")
        print("client close 1000")
        async with connect(uri, compression=compression, ping_interval=None) as socket:
            await socket.send("close")
            said("client", "close")
            try:
                await socket.recv()
            except ConnectionClosed as closed:
                print("server close", closed.rcvd.code)


asyncio.run({"serve": listen, "ask": ask}[sys.argv[1]](*sys.argv[2:]))
