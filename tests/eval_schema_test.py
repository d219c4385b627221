#!/usr/bin/env python3
"""Answers under random schemas, judged by python3-jsonschema (docs/structured-output.md). RUVLTRA_SCHEMAS=1000 for a full
run; 40 by default, and 300 texts that no model but chance wrote."""
import json
import os
import sys

from cli_harness import SCRATCH, Case, call, main

try:
    import jsonschema
except ImportError:
    print("SKIP: needs the package python3-jsonschema")
    sys.exit(77)

KEYWORDS = {"type", "properties", "required", "additionalProperties", "enum", "const", "items", "prefixItems", "minItems",
            "maxItems", "anyOf", "oneOf", "allOf", "$ref", "$defs", "minLength", "maxLength", "minimum", "maximum", "nullable"}


def keywords_of(schema, found):
    """Adds the keywords of a schema and of all inside it."""
    if not isinstance(schema, dict):
        return
    found |= KEYWORDS & schema.keys()
    for name in ("properties", "$defs"):
        for inside in schema.get(name, {}).values():
            keywords_of(inside, found)
    for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for inside in schema.get(name, []):
            keywords_of(inside, found)
    for name in ("items", "additionalProperties"):
        keywords_of(schema.get(name), found)


def with_null(schema):
    """`nullable` is OpenAPI's; to the validator it is one more type."""
    if isinstance(schema, list):
        return [with_null(inside) for inside in schema]
    if not isinstance(schema, dict):
        return schema
    out = {name: inside if name in ("enum", "const") else with_null(inside) for name, inside in schema.items()}
    if out.pop("nullable", None) is True and isinstance(out.get("type"), str):
        out["type"] = [out["type"], "null"]
    return out


class Schemas(Case):
    def judged(self, count, *words):
        path = os.path.join(SCRATCH, "lines.jsonl")
        document = self.document("eval", "schema", "--json", "--schemas", str(count), "--lines", path, *words, timeout=3000)
        with open(path, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        self.assertEqual(len(lines), count)
        found, finished = set(), 0
        for line in lines:
            keywords_of(line["schema"], found)
            if not line["finished"]:
                continue
            finished += 1
            schema = with_null(line["schema"])
            jsonschema.Draft202012Validator.check_schema(schema)
            problems = list(jsonschema.Draft202012Validator(schema).iter_errors(json.loads(line["text"])))
            self.assertEqual(problems, [], (line["number"], line["text"], line["schema"]))
        self.assertEqual(document["finished"], finished)
        return document, found

    def test_answers_of_the_model(self):
        document, _ = self.judged(int(os.environ.get("RUVLTRA_SCHEMAS", "40")), "--no-progress")
        self.assertGreaterEqual(document["finished"], 0.8 * document["schemas"])
        print({key: document[key] for key in ("schemas", "finished", "slowdown", "mask_us", "compile_us")})

    def test_texts_of_chance(self):
        document, found = self.judged(300, "--walk", "--seed", "5")
        self.assertEqual(KEYWORDS - found, set(), "the generator leaves out a keyword")
        self.assertGreaterEqual(document["finished"], 0.8 * document["schemas"])


class Run(Case):
    def schema(self, text):
        path = os.path.join(SCRATCH, "schema.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_the_answer_is_json(self):
        schema = {"type": "object", "properties": {"animal": {"enum": ["fox", "crow"]},
                                                   "name": {"type": "string", "maxLength": 12},
                                                   "age": {"type": "integer", "minimum": 1, "maximum": 20}},
                  "required": ["animal", "name", "age"]}
        path = self.schema(json.dumps(schema))
        for temperature in ("0", "1.1"):
            words = ("run", "--json-schema", path, "--temp", temperature, "--seed", "3", "--no-progress", "Who is it?")
            answer = self.ok(*words)
            jsonschema.validate(json.loads(answer), schema)
            self.assertEqual(answer, self.ok(*words, "--spec", "ngram", "--lookahead", "3"))
            document = self.document(*words, "--json", "--logprobs", "2")
            self.assertEqual((document["text"] + "\n").encode(), answer)
            self.assertEqual(document["finish_reason"], "stop")
            # Log-probabilities are the model's own, which would rather tell a story.
            first = document["logprobs"]["content"][0]
            self.assertTrue(first["token"].startswith("{"))
            self.assertFalse(first["top_logprobs"][0]["token"].startswith("{"))

    def test_an_answer_cut_short(self):
        path = self.schema('{"type": "string", "minLength": 500}')
        code, out, err = call("run", "--json-schema", path, "-n", "5", "--no-progress", "--json", "Hello")
        self.assertEqual(code, 0)
        self.assertEqual(json.loads(out)["finish_reason"], "length")
        self.assertIn(b"--max-tokens", err)

    def test_schemas_that_cannot_be_used(self):
        self.refused(1, "none.json", "run", "--json-schema", os.path.join(SCRATCH, "none.json"), "Hello")
        for text, pattern in (('{"type": "strin"}', "type: expected"), ('{"properties": {"a": {"format": "date"}}}', "/properties/a.*format"),
                              ("{", "schema.json"), ('{"$ref": "#/x"}', "#/x"), ("false", "values")):
            self.refused(1, pattern, "run", "--json-schema", self.schema(text), "Hello")


if __name__ == "__main__":
    main()
