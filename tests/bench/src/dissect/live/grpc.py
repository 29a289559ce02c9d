"""Calls of gRPC's own implementation: `serve PORT` answers, `ask PORT CALLS` asks and prints its counts.

Messages are protobuf written by hand: no schema, no generated code.
"""

import collections
import concurrent.futures
import json
import multiprocessing
import random
import signal
import sys

import grpc

PROCESSES = 2
# Connections of each asking process; calls under way on each of them.
CHANNELS = 24
UNDER_WAY = 2
STREAMED = 8
SERVICE = "/shop.v1.CartService/"


def text(number, value):
    """A protobuf field of a short text."""
    return bytes([number << 3 | 2, len(value)]) + value.encode()


def article(source):
    name = "Article %d" % source.randrange(10000)
    return text(1, "%08x" % source.getrandbits(32)) + text(2, name) + bytes([3 << 3, source.randrange(100)])


def cart(source):
    """Many small carts, few large ones."""
    items = b""
    for _ in range(min(60, int(2 / (source.random() + 0.01)))):
        item = article(source)
        items += bytes([2 << 3 | 2, len(item)]) + item
    return text(1, "cart-%d" % source.randrange(100000)) + items


def serve(port):
    source = random.Random(1)
    carts = [cart(source) for _ in range(200)]

    def get(request, context):
        if b"gone" in request:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such cart")
        return source.choice(carts)

    def watch(request, context):
        for _ in range(STREAMED):
            yield source.choice(carts)

    def add(requests, context):
        for _ in requests:
            pass
        return source.choice(carts)

    class Handlers(grpc.GenericRpcHandler):
        methods = {
            SERVICE + "Get": grpc.unary_unary_rpc_method_handler(get),
            SERVICE + "Watch": grpc.unary_stream_rpc_method_handler(watch),
            SERVICE + "Add": grpc.stream_unary_rpc_method_handler(add),
        }

        def service(self, details):
            return self.methods.get(details.method)

    workers = concurrent.futures.ThreadPoolExecutor(8)
    server = grpc.server(workers, handlers=[Handlers()], options=[("grpc.so_reuseport", 1)])
    server.add_insecure_port("127.0.0.1:%d" % port)
    server.start()
    signal.sigwait([signal.SIGINT, signal.SIGTERM])
    server.stop(None)


def ask(port, calls, seed):
    source = random.Random(seed)
    counts = collections.Counter()
    channels = [
        grpc.insecure_channel("127.0.0.1:%d" % port, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(CHANNELS)
    ]
    stubs = [
        (
            channel.unary_unary(SERVICE + "Get"),
            channel.unary_stream(SERVICE + "Watch"),
            channel.stream_unary(SERVICE + "Add"),
        )
        for channel in channels
    ]

    def begin(stub):
        get, watch, add = stub
        metadata = [("x-request-id", "%032x" % source.getrandbits(128)), ("x-tenant", "shop")]
        what = source.randrange(100)
        key = text(1, "cart-%d" % source.randrange(100000))
        if what < 10:
            return "Watch", watch(key, metadata=metadata, timeout=30)
        if what < 15:
            return "Add", add.future(iter([article(source) for _ in range(5)]), metadata=metadata, timeout=30)
        if what < 18:
            key = text(1, "gone")
        return "Get", get.future(key, metadata=metadata, timeout=30)

    def finish(method, call):
        if method == "Watch":
            for _ in call:
                pass
        counts[method] += 1
        counts[call.code().name] += 1

    # No thread may be forked from, so each process asks by itself; a call begins when the one in its place has ended.
    under_way = collections.deque()
    for number in range(calls):
        if len(under_way) == CHANNELS * UNDER_WAY:
            finish(*under_way.popleft())
        under_way.append(begin(stubs[number % CHANNELS]))
    while under_way:
        finish(*under_way.popleft())
    for channel in channels:
        channel.close()
    return counts


def main():
    role, port = sys.argv[1], int(sys.argv[2])
    # Before gRPC has begun, its threads do not survive a fork.
    if role == "serve":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
        others = [multiprocessing.Process(target=serve, args=(port,)) for _ in range(PROCESSES - 1)]
        for other in others:
            other.start()
        serve(port)
        for other in others:
            other.terminate()
            other.join()
    else:
        share = max(1, int(sys.argv[3]) // PROCESSES)
        with multiprocessing.Pool(PROCESSES) as pool:
            counts = sum(pool.starmap(ask, [(port, share, seed) for seed in range(PROCESSES)]), collections.Counter())
        print(json.dumps(counts))


main()
