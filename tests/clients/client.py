"""The Python SDK (1.x or 2.x, whichever runs this) against a server: client.py KIND URL AGENTICORE

KIND: http, sse, bridge (`agenticore mcp`) or stdio (`agenticore serve` with AGENTICORE_TRANSPORT=stdio).
"""

import asyncio
import importlib.metadata
import os
import sys

KIND, URL, AGENTICORE = sys.argv[1:4]
IS_OLD = importlib.metadata.version("mcp").startswith("1.")


def field(result, old, new):
    return getattr(result, old) if hasattr(result, old) else getattr(result, new)


def program():
    from mcp import StdioServerParameters

    arguments = ["mcp", "--server", URL] if KIND == "bridge" else ["serve"]
    return StdioServerParameters(command=AGENTICORE, args=arguments, env=dict(os.environ))


async def use(session):
    names = [tool.name for tool in (await session.list_tools()).tools]
    assert {"run_task", "get_job", "list_jobs", "cancel_job", "list_profiles"} <= set(names), names
    told = []

    async def progress(step, _total, message):
        told.append((step, message))

    asked = {"task": "[[raw hello]] [[say done]]", "repo_url": "", "wait": True}
    ran = await session.call_tool("run_task", asked, progress_callback=progress)
    job = field(ran, "structuredContent", "structured_content")["job"]
    assert not field(ran, "isError", "is_error") and job["output"] == "done", ran
    steps = [step for step, _ in told]
    assert steps and steps == sorted(set(steps)) and all(message for _, message in told), told
    refused = await session.call_tool("get_job", {"job_id": "nonsense"})
    assert field(refused, "isError", "is_error"), refused
    try:
        await session.call_tool("no_such_tool", {})
        raise SystemExit("a tool that is not there was called")
    except Exception as error:  # each SDK has an error of its own
        assert "there is no tool no_such_tool" in str(error), error
    print(KIND, "is well:", len(names), "tools,", len(told), "progress messages")


async def old():
    from mcp import ClientSession

    if KIND == "http":
        from mcp.client.streamable_http import streamablehttp_client as connect

        connection = connect(URL + "/mcp")
    elif KIND == "sse":
        from mcp.client.sse import sse_client

        connection = sse_client(URL + "/sse")
    else:
        from mcp.client.stdio import stdio_client

        connection = stdio_client(program())
    async with connection as streams:
        async with ClientSession(streams[0], streams[1]) as session:
            await session.initialize()
            await use(session)


async def new():
    from mcp import Client

    if KIND == "http":
        target = URL + "/mcp"
    elif KIND == "sse":
        from mcp.client.sse import sse_client

        target = sse_client(URL + "/sse")
    else:
        from mcp.client.stdio import stdio_client

        target = stdio_client(program())
    async with Client(target) as session:
        await use(session)


asyncio.run(asyncio.wait_for(old() if IS_OLD else new(), 120))
