"""The smallest server that the official Python SDK makes: tools whose answer is ready.

    python3 minimal_server.py PORT ANSWER.json TOOLS.json

A peer for the hub's MCP: it speaks the same protocol, has as many tools with the same descriptions, and gives the same
rows, but has nothing to look up.
"""

import json
import sys
from typing import Any

from mcp.server.mcpserver import MCPServer

with open(sys.argv[2]) as file:
    ANSWER = json.load(file)
with open(sys.argv[3]) as file:
    TOOLS = json.load(file)

server = MCPServer("minimal", log_level="ERROR")


def calls(kfl: str = "", limit: int = 100) -> dict[str, Any]:
    return ANSWER


for tool in TOOLS:
    server.tool(name=tool["name"], title=tool["title"], description=tool["description"])(calls)

server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
