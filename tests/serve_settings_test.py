#!/usr/bin/env python3
"""Where the settings of `ruvltra serve` come from, and that they act (docs/server.md): flag, environment, TOML, profile,
default; lists; profiles side by side from one set of weights."""
import os
import re

from cli_harness import SCRATCH, Case, main
from serve_harness import Server

CHAT = {"messages": [{"role": "user", "content": "Tell me a story about a fox."}], "max_tokens": 8}


class Precedence(Case):
    def write(self, text):
        self.config = os.path.join(SCRATCH, "serve.toml")
        with open(self.config, "w") as file:
            file.write(text)

    def effective(self, *words, **extra):
        text = self.ok("serve", "--config", self.config, "--print-config", *words, **extra).decode()
        return {key: (value, source) for key, value, source in re.findall(r"(?m)^(\w+) = (.*)  # (.*)$", text)}

    def test_order(self):
        self.write("")
        self.assertEqual(self.effective()["port"], ("8080", "default"))
        self.write("port = 1001\n")
        self.assertEqual(self.effective()["port"], ("1001", self.config))
        self.write("port = 1001\n[serve]\nport = 1002\n")
        self.assertEqual(self.effective()["port"], ("1002", self.config + " [serve]"))
        self.assertEqual(self.effective(RUVLTRA_PORT="1003")["port"], ("1003", "environment RUVLTRA_PORT"))
        self.assertEqual(self.effective("--port", "1004", RUVLTRA_PORT="1003")["port"], ("1004", "flag"))

    def test_lists(self):
        self.write('[serve]\nalias = ["a", "b"]\nallowed_host = ["x.example", "y.example:81"]\ncors_origin = "https://z.example"\n')
        shown = self.effective()
        self.assertEqual(shown["alias"][0], '["a", "b"]')
        self.assertEqual(shown["allowed_host"][0], '["x.example", "y.example:81"]')
        self.assertEqual(shown["cors_origin"][0], '["https://z.example"]')
        self.assertEqual(self.effective(RUVLTRA_ALIAS="c,d")["alias"], ('["c", "d"]', "environment RUVLTRA_ALIAS"))
        self.assertEqual(self.effective("--alias", "e", "--alias", "f")["alias"], ('["e", "f"]', "flag"))

    def test_strict_keys(self):
        for text, pattern in (("[serve]\nprot = 1\n", r'key in \[serve\]: "prot"; did you mean port'),
                              ("[sevre]\nport = 1\n", r'unknown table "sevre"; did you mean serve'),
                              ("[serve]\nalais = []\n", r'"alais"; did you mean alias'),
                              ("alowed_host = []\n", r'"alowed_host"; did you mean allowed_host'),
                              ("[serve]\nport = 70000\n", r"--port: expected an integer in 0..65535"),
                              ("[serve]\nalias = [[1]]\n", r"expected an array of plain values"),
                              ('[serve]\nlearn = "maybe"\n', r"--learn: expected one of off, record, on")):
            self.write(text)
            self.refused(2, pattern, "serve", "--config", self.config)
        self.write("")
        self.refused(2, "environment RUVLTRA_PORT: --port: expected", "serve", "--config", self.config, RUVLTRA_PORT="x")

    def test_secrets_are_not_shown(self):
        self.write("")
        for words, extra in ((["--api-key", "s3cret"], {}), ([], {"RUVLTRA_API_KEY": "s3cret"})):
            text = self.ok("serve", "--config", self.config, "--print-config", *words, **extra).decode()
            self.assertNotIn("s3cret", text)
            self.assertRegex(text, r"(?m)^# api_key: set, not shown  # (flag|environment RUVLTRA_API_KEY)$")


class InForce(Case):
    def test_file_and_environment_act(self):
        config = os.path.join(SCRATCH, "acts.toml")
        with open(config, "w") as file:
            file.write('alias = ["gpt-4o-mini"]\n[serve]\nprofile = "coder"\nallowed_host = ["chat.example.org"]\n'
                       'cors_origin = ["https://web.example.org"]\nno_ui = true\n')
        with Server("acts", "--config", config, RUVLTRA_PROFILE="agent") as server:
            def profile(**fields):
                return server.call("POST", "/v1/chat/completions", {**CHAT, **fields}).json["ruvltra"]["profile"]
            self.assertEqual(profile(), "agent")  # the environment wins over the file
            # Side by side, from one set of weights: by the model's name, and by a field that wins over it.
            self.assertEqual([profile(model="ruvltra-" + name) for name in ("base", "coder", "agent")],
                             ["base", "coder", "agent"])
            self.assertEqual(profile(model="ruvltra-base", profile="coder"), "coder")
            self.assertEqual(profile(model="gpt-4o-mini"), "agent")
            answer = server.call("POST", "/v1/chat/completions", {**CHAT, "model": "gpt-5"})
            self.assertEqual((answer.status, answer.json["error"]["code"]), (404, "model_not_found"))
            ids = {model["id"]: model["meta"]["sha256"] for model in server.call("GET", "/v1/models").json["data"]}
            self.assertEqual(set(ids), {"nano-q8_0", "ruvltra-base", "ruvltra-coder", "ruvltra-agent", "gpt-4o-mini"})
            self.assertEqual(len(set(ids.values())), 1)
            # The coder's profile has a seed, so it says the same twice; the base profile draws one.
            twice = [server.call("POST", "/v1/chat/completions", {**CHAT, "model": "ruvltra-coder"}).json for _ in range(2)]
            self.assertEqual(twice[0]["ruvltra"]["seed"], 0)
            self.assertEqual(twice[0]["choices"][0]["message"], twice[1]["choices"][0]["message"])
            seeds = {server.call("POST", "/v1/chat/completions", {**CHAT, "model": "ruvltra-base"}).json["ruvltra"]["seed"]
                     for _ in range(2)}
            self.assertEqual(len(seeds), 2)

            self.assertEqual(server.call("GET", "/v1/models", headers={"Host": "chat.example.org"}).status, 200)
            self.assertEqual(server.call("GET", "/v1/models", headers={"Host": "evil.example.org"}).status, 403)
            answer = server.call("GET", "/v1/models", headers={"Origin": "https://web.example.org"})
            self.assertEqual((answer.status, answer.headers["Access-Control-Allow-Origin"]), (200, "https://web.example.org"))
            self.assertEqual(server.call("GET", "/v1/models", headers={"Origin": "https://evil.example.org"}).status, 403)
            self.assertEqual(server.call("GET", "/").status, 404)

    def test_keys_from_a_file_that_the_settings_name(self):
        keys = os.path.join(SCRATCH, "keys")
        with open(keys, "w") as file:
            file.write("ana secret-ana admin\nbob secret-bob\n")
        os.chmod(keys, 0o600)
        config = os.path.join(SCRATCH, "keys.toml")
        with open(config, "w") as file:
            file.write(f'[serve]\napi_key_file = "{keys}"\n')
        with Server("keyed", "--config", config) as server:
            self.assertEqual(server.call("GET", "/v1/models").status, 401)
            self.assertEqual(server.call("GET", "/v1/models", headers={"Authorization": "Bearer secret-bob"}).status, 200)
        self.refused(2, "--host 0.0.0.0: expected --api-key-file", "serve", "--host", "0.0.0.0", "--port", "0")


if __name__ == "__main__":
    main()
