"""The smallest server that the official Python SDK makes: one tool, whose answer is ready.

    python3 minimal_server.py PORT ANSWER.json

A peer for the hub's MCP: it speaks the same protocol and gives the same rows, but has nothing to look up.
"""

import json
import sys
from typing import Any

from mcp.server.mcpserver import MCPServer

with open(sys.argv[2]) as file:
    ANSWER = json.load(file)

server = MCPServer("minimal", log_level="ERROR")


@server.tool()
def list_api_calls(kfl: str = "", limit: int = 100) -> dict[str, Any]:
    """API calls by filter."""
    return ANSWER


server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
