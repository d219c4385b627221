#!/usr/bin/env python3
"""Which agent a task belongs to, and what became of it: the next decision knows. Nothing but Python's own library.

    route.py "Fix the SQL injection in the login form" [success|failure]

RUVLTRA_URL and RUVLTRA_KEY say which server."""
import json
import os
import sys
import urllib.request

URL = os.environ.get("RUVLTRA_URL", "http://127.0.0.1:8080")


def post(path, document):
    request = urllib.request.Request(URL + path, json.dumps(document).encode(),
                                     {"Authorization": "Bearer " + os.environ.get("RUVLTRA_KEY", "local")})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    decision = post("/v1/route", {"task": sys.argv[1], "k": 3})
    for agent in [decision["primaryAgent"], *decision["alternativeAgents"]]:
        print(f"{agent['type']:<22} {agent['confidence']:.2f}  {agent['reason']}")
    if len(sys.argv) > 2:
        told = {"decision_id": decision["decision_id"], "agent": decision["primaryAgent"]["type"],
                "success": sys.argv[2] == "success"}
        print(post("/v1/feedback", told))


if __name__ == "__main__":
    main()
