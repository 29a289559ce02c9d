"""gRPC by grpcio: `serve ADDRESS`, `ask ADDRESS`, or `ask-twice ADDRESS`, which asks once for each line that it reads:
a method and its message.

The service and the lines are those of `tests/peers/src/grpc.rs`.
"""

import sys
import time
from concurrent import futures

import grpc

CODES = {code.value[0]: code for code in grpc.StatusCode}
SLEEP = 30
DEADLINE = 0.3


def unary(message, context):
    if message.startswith(b"fail "):
        context.abort(CODES[int(message[5:])], "as it was told: \u00c4\u00d6")
    if message == b"sleep":
        until = time.monotonic() + SLEEP
        while context.is_active() and time.monotonic() < until:
            time.sleep(0.01)
    return message


def server_stream(message, context):
    for number in range(int(message)):
        yield str(number).encode()


def client_stream(messages, context):
    return str(sum(1 for _ in messages)).encode()


def bidirectional(messages, context):
    yield from messages


def serve(address):
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Bidirectional": grpc.stream_stream_rpc_method_handler(bidirectional),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("peers.Peer", handlers)])
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def ask(address):
    with grpc.insecure_channel(address) as channel:
        for number in range(40):
            say_unary(channel, "Unary", b"m" * (number * 100))
        say_unary(channel, "Unary", b"m" * 300_000)
        for code in range(1, 17):
            say_unary(channel, "Unary", b"fail %d" % code)
        say_unary(channel, "Nowhere", b"")
        for count in [0, 1, 10, 200]:
            messages = [b"a message"] * count
            stream = channel.unary_stream("/peers.Peer/ServerStream")(str(count).encode())
            print("ServerStream 0 1", sum(1 for _ in stream))
            channel.stream_unary("/peers.Peer/ClientStream")(iter(messages))
            print("ClientStream 0", count, 1)
            stream = channel.stream_stream("/peers.Peer/Bidirectional")(iter(messages))
            print("Bidirectional 0", count, sum(1 for _ in stream))
        say_unary(channel, "Unary", b"sleep", DEADLINE)


def ask_twice(address):
    with grpc.insecure_channel(address) as channel:
        for line in sys.stdin:
            method, message = line.strip().split(" ", 1)
            say_unary(channel, method, message.encode())
            sys.stdout.flush()


def say_unary(channel, method, message, patience=20):
    try:
        channel.unary_unary(f"/peers.Peer/{method}")(message, timeout=patience)
        print(method, 0, 1, 1)
    except grpc.RpcError as error:
        # The status is the client's own where it did not wait.
        status = "deadline" if patience == DEADLINE else error.code().value[0]
        print(method, status, 1, 0)


{"serve": serve, "ask": ask, "ask-twice": ask_twice}[sys.argv[1]](sys.argv[2])
