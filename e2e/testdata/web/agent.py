"""An agent that mends a test, with a sub-agent, and the other traffic of a day.

What the model says is the server's; this is only the loop that every agent has.
"""
import asyncio
import json
import ssl
import sys
import urllib.error
import urllib.request

import websockets

MODELS, FILES, STRANGE, INTERNAL = (f"https://{host}" for host in sys.argv[1:5])

RULES = """You are a software engineer who works in a terminal. You read before you write,
you change as little as needed, and you run the tests before you say that you are done.

# How you work
- Look for the cause of a failure, not for a way around it.
- Say what you do in a sentence before you do it.
- Never touch files outside the repository.
""" + "\n".join(f"- Rule {n}: keep the change small, keep the names, keep the tests fast." for n in range(40))
TOOLS = [
    {"name": name, "description": text, "input_schema": {"type": "object", "properties": {p: {"type": "string"} for p in params}, "required": params}}
    for name, text, params in [
        ("Read", "Reads a file.", ["file_path"]), ("Edit", "Replaces a text in a file.", ["file_path", "old_string", "new_string"]),
        ("Bash", "Runs a command.", ["command"]), ("Task", "Starts a sub-agent with a task of its own.", ["description", "prompt"])]]


def fetch(url, data=None, headers=None, context=None):
    request = urllib.request.Request(url, data, headers or {})
    try:
        with urllib.request.urlopen(request, context=context) as answer:
            return answer.read()
    except urllib.error.HTTPError as e:
        return e.read()


def ask(system, messages):
    """Sends one request and puts the answer together from its stream."""
    for m in messages:
        for block in m["content"]:
            block.pop("cache_control", None)
    messages[-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}
    body = {"model": "claude-example-5", "max_tokens": 8192, "stream": True, "thinking": {"type": "enabled", "budget_tokens": 2048},
            "system": system, "tools": TOOLS, "messages": messages,
            "metadata": {"user_id": "user_1_account_2_session_0c5ba52f-3b13-4d38-a1c5-8cb8b9b9b001"}}
    request = urllib.request.Request(MODELS + "/v1/messages?beta=true", json.dumps(body).encode(), {
        "content-type": "application/json", "anthropic-version": "2023-06-01", "x-api-key": "sk-ant-api03-" + "k" * 40})
    blocks, pieces = {}, {}
    with urllib.request.urlopen(request) as answer:
        for line in answer:
            if not line.startswith(b"data: "):
                continue
            event = json.loads(line[6:])
            if event["type"] == "content_block_start":
                blocks[event["index"]] = event["content_block"]
            elif event["type"] == "content_block_delta":
                delta, block = event["delta"], blocks[event["index"]]
                for kind, member in (("text_delta", "text"), ("thinking_delta", "thinking"), ("signature_delta", "signature")):
                    if delta["type"] == kind:
                        block[member] = block.get(member, "") + delta[member]
                if delta["type"] == "input_json_delta":
                    pieces[event["index"]] = pieces.get(event["index"], "") + delta["partial_json"]
    for index, text in pieces.items():
        blocks[index]["input"] = json.loads(text)
    return [blocks[i] for i in sorted(blocks)]


def agent(role, prompt, meanwhile=()):
    """Asks until the model wants no tool any more; returns what it said last.

    meanwhile is what else happens, a function before each turn.
    """
    meanwhile = list(meanwhile)
    messages = [{"role": "user", "content": [
        {"type": "text", "text": "<system-reminder>\nThe repository is /src/clock. Be brief.\n</system-reminder>"}, {"type": "text", "text": prompt}]}]
    for turn in range(20):
        if meanwhile:
            meanwhile.pop(0)()
        day = "Today is Tuesday." if role == "main" and turn >= 4 else "Today is Monday."
        system = [{"type": "text", "text": RULES + ("" if role == "main" else "\nYou are a sub-agent: answer with findings.")},
                  {"type": "text", "text": day, "cache_control": {"type": "ephemeral"}}]
        answer = ask(system, messages)
        messages.append({"role": "assistant", "content": answer})
        results = []
        for block in answer:
            if block["type"] != "tool_use":
                continue
            if block["name"] == "Task":
                text = agent("sub", block["input"]["prompt"])
            else:
                text = fetch(FILES + "/tool", json.dumps(block["input"]).encode(), {"content-type": "application/json"}).decode()
            results.append({"type": "tool_result", "tool_use_id": block["id"], "content": text, "is_error": "FAIL" in text})
        if not results:
            return "".join(b.get("text", "") for b in answer)
        messages.append({"role": "user", "content": results})
    return ""


def untrusted():
    fetch(INTERNAL + "/metrics", context=ssl._create_unverified_context())


def strange():
    for path in ("/page?q=%3Cscript%3Ealert(1)%3C/script%3E", "/names", "/deep", "/long", "/big"):
        fetch(STRANGE + path, headers={"X-Note": "<img src=x onerror=document.title=1>"})


async def chat():
    async with websockets.connect(FILES.replace("https", "wss") + "/ws") as ws:
        for text in ('{"type":"hello","n":1}', "second"):
            await ws.send(text)
            await ws.recv()
        fetch(FILES + "/hold")  # is answered when the page shows what was said
        await ws.send("third")
        await ws.recv()


def main():
    fetch(FILES + "/packages/clock?version=1.4.2")
    fetch(FILES + "/logo.png")
    fetch(FILES + "/missing")
    fetch(FILES + "/orders", b'{"id":12345678901234567890,"items":[{"sku":"A-1","count":2}],"total":19.90}', {"content-type": "application/json"})
    untrusted()
    said = agent("main", "The test of the clock fails since yesterday. Find out why and mend it.", [strange, lambda: fetch(FILES + "/broken")])
    print(said)
    asyncio.run(chat())
    fetch(FILES + "/last")  # is answered when the page has been looked at


main()
