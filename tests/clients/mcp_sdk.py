"""The official Python SDK against a hub: lists, calls, prompts, resources, completions, progress.

    python3 mcp_sdk.py http://127.0.0.1:8898/mcp      a hub with a dissection
    python3 mcp_sdk.py -- wiretape-hub mcp FILE       over stdio

The SDK checks every structured answer against the tool's output schema. Prints a line for each check; fails at the
first that does not hold.
"""

import asyncio
import sys

from mcp import Client, StdioServerParameters
from mcp.types import PromptReference

# Tools of the contract that this hub has no use for: they say what to do instead.
REFUSED = {"get_cloud_job_status"}


def check(what, holds):
    print(("ok   " if holds else "FAIL ") + what)
    if not holds:
        sys.exit(1)


async def ready(client):
    """Over stdio a file may still be on its way to calls."""
    for _ in range(300):
        status = (await client.call_tool("get_snapshot_dissection_status", {})).structured_content
        if not status["active"]:
            return status
        await asyncio.sleep(0.1)
    return status


async def talk(server, mode):
    steps = []

    async def heard(progress, total, message):
        steps.append(progress)

    async with Client(server, mode=mode, read_timeout_seconds=60) as client:
        print(f"--   {mode}: revision {client.protocol_version}")
        check("it says who it is", client.server_info.name == "wiretape")
        check("it has instructions", "investigate" in client.instructions)
        status = await ready(client)
        check(f"a dissection is there ({status['status']})", status["status"] == "completed")

        tools = (await client.list_tools()).tools
        check(f"{len(tools)} tools with both schemas", all(t.input_schema and t.output_schema for t in tools))
        first = await client.call_tool("list_api_calls", {"limit": "3"})
        calls = first.structured_content["calls"]
        check("a number may be a text", not first.is_error and len(calls) == 3)
        arguments = {
            "get_snapshot": {"id": status["snapshot_id"]},
            "export_snapshot_pcap": {"id": status["snapshot_id"], "bpf_filter": "tcp"},
            "get_api_call": {"id": calls[0]["id"]},
            "get_api_call_details": {"id": calls[0]["id"], "include_payload": "true"},
            "export_pcap": {"kfl": f'src.port == {calls[0]["src"]["port"]}'},
            "explain_kfl": {"kfl": "http and status >= 500"},
            "query_sql": {"sql": "SELECT protocol, count(*) AS calls FROM calls GROUP BY protocol"},
        }
        for tool in tools:
            if tool.annotations.read_only_hint:
                answer = await client.call_tool(tool.name, arguments.get(tool.name, {}))
                check(f"{tool.name}: {answer.content[0].text[:90]}", answer.is_error == (tool.name in REFUSED))
        answer = await client.call_tool("investigate", {"snapshot_id": status["snapshot_id"]}, progress_callback=heard)
        check(f"investigate: {answer.content[0].text[:90]}", answer.structured_content["status"] == "completed")
        check("its progress is heard", len(steps) > 0)
        wrong = await client.call_tool("list_api_calls", {"kfl": "no.such.field == 1"})
        check("an error is an answer", wrong.is_error and "no.such.field" in wrong.content[0].text)

        prompts = (await client.list_prompts()).prompts
        for prompt in prompts:
            given = {argument.name: "x" for argument in prompt.arguments or []}
            told = await client.get_prompt(prompt.name, given)
            check(f"prompt {prompt.name}", len(told.messages[0].content.text) > 200)
        reference = PromptReference(type="ref/prompt", name="find_errors")
        completed = await client.complete(reference, {"name": "kfl", "value": "response.stat"})
        check("arguments are completed", "response.status" in completed.completion.values)
        resources = (await client.list_resources()).resources
        for resource in resources:
            read = await client.read_resource(resource.uri)
            check(f"resource {resource.uri}", len(read.contents) == 1)
        check("templates", len((await client.list_resource_templates()).resource_templates) == 3)


async def main():
    if sys.argv[1] == "--":
        server = StdioServerParameters(command=sys.argv[2], args=sys.argv[3:])
    else:
        server = sys.argv[1]
    for mode in ["legacy", "auto"]:
        await talk(server, mode)


asyncio.run(main())
