"""An agent of three turns: a question, a tool and its result, another question.

Between the second and the third its system prompt changes, as that of agents
does which write the time into it: what was cached is lost.
"""
import json
import sys
import urllib.request

SYSTEM = [
    {"type": "text", "text": "You are an agent that tells the time. " * 40},
    {"type": "text", "text": "Today is Monday.", "cache_control": {"type": "ephemeral"}},
]
TOOLS = [
    {"name": "get_time", "description": "Tells the time in a city.\nAsk for one city.",
     "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
    {"name": "get_weather", "description": "Tells the weather in a city.", "input_schema": {"type": "object"}},
]


def mark(message):
    """Moves the cache mark to the last block of the newest message."""
    message["content"][-1]["cache_control"] = {"type": "ephemeral"}


def call(base, system, messages):
    """Sends one request and puts the answer together from its stream."""
    for m in messages:
        for block in m["content"]:
            block.pop("cache_control", None)
    mark(messages[-1])
    body = {"model": "claude-test-1", "max_tokens": 1024, "stream": True, "system": system, "tools": TOOLS,
            "metadata": {"user_id": "user_1_account_2_session_0c5ba52f-3b13-4d38-a1c5-8cb8b9b9b001"}, "messages": messages}
    request = urllib.request.Request(base + "/v1/messages?beta=true", json.dumps(body).encode(), {
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
                if delta["type"] == "text_delta":
                    block["text"] += delta["text"]
                elif delta["type"] == "thinking_delta":
                    block["thinking"] += delta["thinking"]
                elif delta["type"] == "signature_delta":
                    block["signature"] = delta["signature"]
                elif delta["type"] == "input_json_delta":
                    pieces[event["index"]] = pieces.get(event["index"], "") + delta["partial_json"]
    for index, text in pieces.items():
        blocks[index]["input"] = json.loads(text)
    return [blocks[i] for i in sorted(blocks)]


def main(base):
    messages = [{"role": "user", "content": [
        {"type": "text", "text": "<system-reminder>\nBe brief.\n</system-reminder>"},
        {"type": "text", "text": "What time is it in Oslo?"}]}]
    answer = call(base, SYSTEM, messages)
    messages.append({"role": "assistant", "content": answer})
    uses = [b for b in answer if b["type"] == "tool_use"]
    messages.append({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": u["id"], "content": "12:00 in " + u["input"]["city"]} for u in uses]})
    answer = call(base, SYSTEM, messages)
    messages.append({"role": "assistant", "content": answer})
    messages.append({"role": "user", "content": [
        {"type": "text", "text": "<command-message>again</command-message>\n<command-name>/again</command-name>\n<command-args>Bergen</command-args>"},
        {"type": "text", "text": "And in Bergen?"}]})
    system = [SYSTEM[0], {"type": "text", "text": "Today is Tuesday.", "cache_control": {"type": "ephemeral"}}]
    answer = call(base, system, messages)
    print("".join(b.get("text", "") for b in answer))


main(sys.argv[1])
