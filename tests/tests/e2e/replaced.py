"""A pod that serves, and one that asks.

serve NAME ADDRESS    answers on port 8080, and says who it is; /pay/all takes more memory than anyone allows
ask ADDRESS           asks until standard input ends, on a connection of its own each time; prints who answered
"""

import http.client
import http.server
import select
import sys
import time


def serve(name, address):
    class Pod(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            hoard = []
            while self.path == "/pay/all":
                hoard.append(bytearray(b"x") * (1 << 20))
            self.send_response(200)
            self.send_header("X-Pod", name)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer.daemon_threads = True
    http.server.ThreadingHTTPServer((address, 8080), Pod).serve_forever()


def ask(address):
    number = 0
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        number += 1
        connection = http.client.HTTPConnection(address, 8080, timeout=5)
        try:
            connection.request("GET", f"/pay?n={number}")
            answer = connection.getresponse()
            answer.read()
            print(number, answer.getheader("X-Pod"), flush=True)
        except OSError:
            pass
        connection.close()


{"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
