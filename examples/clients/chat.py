#!/usr/bin/env python3
"""A streamed chat with `ruvltra serve`, and what was thought of the answer. Nothing but Python's own library.

    chat.py "Tell me a story about a fox." [good|bad|"The answer as it should have been."]

RUVLTRA_URL and RUVLTRA_KEY say which server. Feedback needs answers that are kept: ruvltra serve --learn record (or on)."""
import http.client
import json
import os
import sys
import urllib.parse

URL = urllib.parse.urlsplit(os.environ.get("RUVLTRA_URL", "http://127.0.0.1:8080"))
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer " + os.environ.get("RUVLTRA_KEY", "local")}


def post(path, document):
    """The response, still unread, to a document."""
    connection = http.client.HTTPConnection(URL.hostname, URL.port or 80, timeout=600)
    connection.request("POST", path, json.dumps(document), HEADERS)
    response = connection.getresponse()
    if response.status >= 300:
        sys.exit(f"{path}: {response.status} {json.loads(response.read())['error']['message']}")
    return response


def chat(text):
    """Prints the answer as it comes; returns its id."""
    answer_id = None
    response = post("/v1/chat/completions", {"messages": [{"role": "user", "content": text}], "stream": True, "max_tokens": 200})
    for line in response:
        if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
            continue
        event = json.loads(line[len(b"data: "):])
        if "error" in event:
            sys.exit(event["error"]["message"])
        answer_id = event["id"]
        for choice in event["choices"]:
            print(choice["delta"].get("content", ""), end="", flush=True)
    print()
    return answer_id


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    answer_id = chat(sys.argv[1])
    if len(sys.argv) > 2:
        word = sys.argv[2]
        feedback = {"good": {"quality": 1}, "bad": {"quality": 0}}.get(word, {"correction": word})
        print(json.loads(post("/v1/feedback", {"request_id": answer_id, **feedback}).read()))


if __name__ == "__main__":
    main()
