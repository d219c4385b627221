#!/usr/bin/env python3
"""The verbs `quantize` and `synth` as a user meets them: files, types, messages, exit codes, and the import of model
folders in Hugging Face's layout. Files are read back by the independent reader under tests/reference."""
import hashlib
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

SKIP = 77
try:
    import numpy as np
except ImportError:
    print("SKIP: python3-numpy is not installed")
    sys.exit(SKIP)

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "reference"))
import qwen2_reference as reference  # noqa: E402

PROGRAM = pathlib.Path(sys.argv.pop(1)).resolve()
NANO = ROOT / "models" / "nano-f16.gguf"
OFFERED = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True).stdout
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("RUVLTRA_")} | {"XDG_CONFIG_HOME": "/nonexistent"}


def run(*arguments, **options):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=ENVIRONMENT,
                          **options)


def tensor_types(path):
    return {name: reference.GT[entry[1]][0] for name, entry in reference.Gguf(path).t.items()}


def same_weights(a, b):
    a, b = reference.Gguf(a), reference.Gguf(b)
    return a.t.keys() == b.t.keys() and all(np.array_equal(a.get(n), b.get(n)) for n in a.t)


class Case(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="ruvltra_quantize_")
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)

    def succeed(self, *arguments):
        done = run(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def refuse(self, code, *parts_then_arguments, parts):
        done = run(*parts_then_arguments)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stdout, "")
        last = done.stderr.strip().splitlines()[-1]
        self.assertTrue(last.startswith("ruvltra: error: "), done.stderr)
        for part in parts:
            self.assertIn(part, last)


class Quantize(Case):
    def test_every_type_reads_back(self):
        exact = reference.Gguf(NANO)
        limits = {"F32": 0, "F16": 0, "BF16": 2e-3, "Q8_0": 0.006, "Q6_K": 0.019, "Q5_K_M": 0.036, "Q5_1": 0.036,
                  "Q5_0": 0.043, "Q4_K_M": 0.073, "Q4_0": 0.086, "Mixed": 0.073}
        for kind, limit in limits.items():
            out = self.folder / f"{kind}.gguf"
            self.succeed("quantize", NANO, out, kind.lower())
            ours = reference.Gguf(out)
            self.assertEqual(ours.t.keys(), exact.t.keys())
            for name in exact.t:
                a, b = exact.get(name).astype(np.float64), ours.get(name).astype(np.float64)
                if a.ndim == 1:
                    self.assertTrue(np.array_equal(a, b), name)
                else:
                    self.assertLessEqual(np.sqrt(((a - b) ** 2).mean() / (a ** 2).mean()), limit, f"{kind} {name}")
            self.assertEqual(list(ours.kv["tokenizer.ggml.merges"]), list(exact.kv["tokenizer.ggml.merges"]))

    def test_bundled_files_are_reproduced(self):
        for model in ("nano", "pico"):
            out = self.folder / f"{model}.gguf"
            self.succeed("quantize", ROOT / f"models/{model}-f16.gguf", out, "Q8_0", "1")
            self.assertEqual(out.read_bytes(), (ROOT / f"models/{model}-q8_0.gguf").read_bytes())

    def test_report(self):
        out = self.folder / "q.gguf"
        document = json.loads(self.succeed("quantize", NANO, out, "Mixed", "--json").stdout)
        self.assertEqual(list(document), ["input", "output", "type", "tensors", "bytes", "bits_per_weight", "seconds",
                                          "dry_run"])
        self.assertEqual(document["bytes"], out.stat().st_size)
        self.assertEqual(document["type"], "Mixed")
        self.assertFalse(document["dry_run"])
        exact, ours = reference.Gguf(NANO), reference.Gguf(out)
        self.assertEqual(ours.kv["ruvltra.quant"], "mixed")
        self.assertEqual(ours.kv["general.file_type"], 15)
        for tensor in document["tensors"]:
            name = tensor["name"]
            self.assertEqual(tensor["to"], reference.GT[ours.t[name][1]][0])
            self.assertEqual(tensor["shape"], list(map(int, ours.t[name][0])))
            rmse = np.sqrt(((exact.get(name).astype(np.float64) - ours.get(name)) ** 2).mean())
            self.assertAlmostEqual(tensor["rmse"], rmse, delta=1e-9 + 1e-6 * rmse)
        text = self.succeed("quantize", NANO, out, "Q4_0", "--force")
        self.assertIn("blk.3.ffn_down.weight", text.stderr)
        self.assertIn("largest relative errors:", text.stdout)
        self.assertIn("bits per weight", text.stdout)

    def test_dry_run_writes_nothing(self):
        out = self.folder / "q.gguf"
        done = self.succeed("quantize", "--model", NANO, "--output", out, "--format", "Q4_K_M", "--dry-run", "--json")
        document = json.loads(done.stdout)
        self.assertTrue(document["dry_run"])
        self.assertIsNone(document["tensors"][0]["rmse"])
        self.assertEqual(list(self.folder.iterdir()), [])
        self.succeed("quantize", NANO, out, "Q4_K_M")
        planned = {t["name"]: t["to"] for t in document["tensors"]}
        self.assertEqual(planned, tensor_types(out))
        table = self.succeed("quantize", NANO, self.folder / "x.gguf", "Q4_K_M", "--dry-run").stdout
        self.assertIn("F16 -> Q6_K", table)
        self.assertIn("total", table)

    def test_rules(self):
        out = self.folder / "q.gguf"
        self.succeed("quantize", NANO, out, "Q4_K_M", "--tensor-type", "blk\\.[0-1]\\.ffn=Q8_0", "--tensor-type",
                     "ffn_(up|gate)=q6_k")
        types = tensor_types(out)
        self.assertEqual(types["blk.1.ffn_up.weight"], "Q8_0")
        self.assertEqual(types["blk.2.ffn_up.weight"], "Q6_K")
        self.assertEqual(types["blk.2.attn_q.weight"], "Q4_K")
        self.assertEqual(types["blk.1.ffn_norm.weight"], "F32")

    def test_refusals(self):
        out = self.folder / "q.gguf"
        self.refuse(2, "quantize", NANO, out, "Q3_K_M", parts=["Q3_K_M", "Q4_K_M"])
        self.refuse(2, "quantize", NANO, out, "Q8_0", "--tensor-type", "attn(=Q8_0", parts=["')'"])
        self.refuse(2, "quantize", NANO, out, "Q8_0", "--tensor-type", "attn=Q9", parts=["Q9"])
        self.refuse(1, "quantize", self.folder / "none.gguf", out, "Q8_0", parts=["none.gguf"])
        self.refuse(1, "quantize", NANO, out, "Q8_0", "--imatrix", NANO, parts=["in_sum2"])
        self.refuse(2, "quantize", ROOT / "models/nano-q8_0.gguf", out, "Q4_K_M", parts=["--allow-requantize"])
        self.assertEqual(list(self.folder.iterdir()), [])
        out.write_text("kept")
        self.refuse(2, "quantize", NANO, out, "Q8_0", parts=["q.gguf"])
        self.assertEqual(out.read_text(), "kept")
        self.succeed("quantize", NANO, out, "Q8_0", "--force")

    def test_interrupt_leaves_nothing(self):
        source = self.folder / "big.gguf"
        self.succeed("synth", source, "--arch", "small", "--layers", "2", "--type", "F16")
        process = subprocess.Popen([PROGRAM, "quantize", source, self.folder / "out.gguf", "Q4_K_M", "1"], env=ENVIRONMENT,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        process.stderr.readline()  # working: warnings come first
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertEqual([p.name for p in self.folder.iterdir()], ["big.gguf"])


# --- Hugging Face folders ---------------------------------------------------------------------------------------------

BLOCK_NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
               "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
               "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def hf_name(name):
    fixed = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             "output.weight": "lm_head.weight"}
    if name in fixed:
        return fixed[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{BLOCK_NAMES[part]}.{kind}"


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class HuggingFace(Case):
    def setUp(self):
        super().setUp()
        self.model = reference.Gguf(NANO)
        self.hf = self.folder / "hf"
        self.hf.mkdir()
        kv = self.model.kv
        self.tensors = {}
        for name in self.model.t:
            array = self.model.get(name)
            dtype = "F32" if array.ndim == 1 else "F16"
            self.tensors[hf_name(name)] = (dtype, array.astype(np.float32 if dtype == "F32" else np.float16))
        self.config = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
                       "hidden_size": kv["qwen2.embedding_length"], "num_hidden_layers": kv["qwen2.block_count"],
                       "num_attention_heads": kv["qwen2.attention.head_count"],
                       "num_key_value_heads": kv["qwen2.attention.head_count_kv"],
                       "intermediate_size": kv["qwen2.feed_forward_length"],
                       "max_position_embeddings": kv["qwen2.context_length"],
                       "vocab_size": len(kv["tokenizer.ggml.tokens"]), "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
                       "tie_word_embeddings": True, "bos_token_id": 4093, "eos_token_id": 4095,
                       "use_sliding_window": False}
        tokens, kinds = kv["tokenizer.ggml.tokens"], kv["tokenizer.ggml.token_type"]
        added = [{"id": i, "content": t, "special": True} for i, t in enumerate(tokens) if kinds[i] == 3]
        self.tokenizer = {"version": "1.0", "added_tokens": added,
                          "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens) if kinds[i] == 1},
                                    "merges": list(kv["tokenizer.ggml.merges"])}}
        self.tokenizer_config = {"chat_template": kv["tokenizer.chat_template"], "eos_token": "<|im_end|>",
                                 "pad_token": {"content": "<|endoftext|>"}, "add_bos_token": False, "bos_token": None}

    def write(self, shards=1):
        (self.hf / "config.json").write_text(json.dumps(self.config))
        (self.hf / "tokenizer.json").write_text(json.dumps(self.tokenizer))
        (self.hf / "tokenizer_config.json").write_text(json.dumps(self.tokenizer_config))
        if shards == 1:
            return write_safetensors(self.hf / "model.safetensors", self.tensors)
        index = {}
        for n in range(shards):
            file = f"model-{n + 1:05}-of-{shards:05}.safetensors"
            part = dict(list(self.tensors.items())[n::shards])
            write_safetensors(self.hf / file, part)
            index.update({name: file for name in part})
        (self.hf / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))

    def imported(self, *flags):
        out = self.folder / "out.gguf"
        self.succeed("quantize", self.hf, out, *(flags or ["F16"]), "--force")
        return out

    def check_same_model(self, out):
        ours = reference.Gguf(out)
        self.assertTrue(same_weights(out, NANO))
        self.assertEqual(tensor_types(out), tensor_types(NANO))
        for key, value in self.model.kv.items():
            if key != "general.name":
                self.assertTrue(np.array_equal(np.asarray(ours.kv[key]), np.asarray(value)), key)
        self.assertEqual(ours.kv["general.name"], "hf")

    def test_single_file(self):
        self.write()
        self.check_same_model(self.imported())

    def test_shards_and_pair_merges(self):
        self.tokenizer["model"]["merges"] = [m.split(" ") for m in self.tokenizer["model"]["merges"]]
        self.write(shards=3)
        self.check_same_model(self.imported())

    def test_quantizes_on_the_way(self):
        self.write()
        out = self.imported("Q4_K_M")
        direct = self.folder / "direct.gguf"
        self.succeed("quantize", NANO, direct, "Q4_K_M")
        self.assertTrue(same_weights(out, direct))

    def test_bf16_untied_and_padded(self):
        """BF16 weights, an own output matrix, and two rows more than the tokenizer has tokens."""
        def bf16(array):
            return (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        embedding = self.model.get("token_embd.weight").astype(np.float32)
        embedding = np.concatenate([embedding, embedding[:2]])
        for name, (dtype, array) in list(self.tensors.items()):
            if dtype == "F16":
                self.tensors[name] = ("BF16", bf16(array))
        self.tensors["model.embed_tokens.weight"] = ("BF16", bf16(embedding))
        self.tensors["lm_head.weight"] = ("BF16", bf16(embedding * 2))
        self.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = ("F32", np.ones(64, np.float32))
        self.config.update(tie_word_embeddings=False, vocab_size=4098)
        self.write()
        ours = reference.Gguf(self.imported("BF16"))
        self.assertEqual(ours.kv["tokenizer.ggml.tokens"][4096:], ["[PAD4096]", "[PAD4097]"])
        self.assertEqual(list(ours.kv["tokenizer.ggml.token_type"][4093:]), [3, 3, 3, 5, 5])
        expected = (bf16(embedding * 2).astype(np.uint32) << 16).view(np.float32)
        self.assertTrue(np.array_equal(ours.get("output.weight"), expected))
        self.assertEqual(reference.GT[ours.t["blk.0.attn_q.weight"][1]][0], "BF16")
        # A tied configuration leaves lm_head out, and says so.
        self.config["tie_word_embeddings"] = True
        self.write()
        done = self.succeed("quantize", self.hf, self.folder / "tied.gguf", "BF16")
        self.assertIn("lm_head.weight is left out", done.stderr)
        self.assertNotIn("output.weight", tensor_types(self.folder / "tied.gguf"))

    def test_refusals(self):
        out = self.folder / "q.gguf"

        def refused(parts, change):
            self.setUp()
            change(self)
            self.write()
            self.refuse(1, "quantize", self.hf, out, "F16", parts=parts)
            self.assertFalse(out.exists())

        refused(["model_type", "llama"], lambda s: s.config.update(model_type="llama"))
        refused(["hidden_size"], lambda s: s.config.update(hidden_size="256"))
        refused(["num_hidden_layers"], lambda s: s.config.pop("num_hidden_layers"))
        refused(["use_sliding_window"], lambda s: s.config.update(use_sliding_window=True))
        refused(["rope_scaling"], lambda s: s.config.update(rope_scaling={"type": "yarn", "factor": 4}))
        refused(["token_embd.weight", "1048576"], lambda s: s.config.update(vocab_size=1 << 20))
        refused(["model.layers.2.mlp.up_proj.weight"], lambda s: s.tensors.pop("model.layers.2.mlp.up_proj.weight"))
        refused(["model.extra.weight"],
                lambda s: s.tensors.update({"model.extra.weight": ("F32", np.zeros(4, np.float32))}))
        refused(["I64"], lambda s: s.tensors.update({"model.norm.weight": ("I64", np.zeros(256, np.int64))}))
        refused(["model.merges"], lambda s: s.tokenizer["model"].update(merges=[["a"]]))
        refused(["model.type", "Unigram"], lambda s: s.tokenizer["model"].update(type="Unigram"))
        refused(["added_tokens.id", "9999"],
                lambda s: s.tokenizer["added_tokens"].append({"id": 9999, "content": "<x>", "special": True}))
        refused(["eos_token", "<nobody>"], lambda s: s.tokenizer_config.update(eos_token="<nobody>"))


class Synth(Case):
    def test_same_arguments_same_bytes(self):
        digests = []
        for n, flags in enumerate([["-t", "1"], ["-t", "2"], ["--seed", "2"]]):
            out = self.folder / f"{n}.gguf"
            self.succeed("synth", out, "--arch", "tiny", "--type", "Q5_K_M", *flags)
            digests.append(hashlib.sha256(out.read_bytes()).hexdigest())
        self.assertEqual(digests[0], digests[1])
        self.assertNotEqual(digests[0], digests[2])

    def test_says_random_and_computes(self):
        for kind in ("Q4_K_M", "Q8_0", "Mixed", "Q5_1", "BF16"):
            out = self.folder / f"{kind}.gguf"
            self.succeed("synth", out, "--arch", "tiny", "--type", kind, "--layers", "2")
            self.assertIn("random weights", reference.Gguf(out).kv["general.name"])
            logits = self.folder / "logits.npy"
            subprocess.run(["/usr/bin/python3", ROOT / "tests/reference/qwen2_reference.py", "logits", out, "1,2,300,4",
                            logits], check=True, timeout=60)
            values = np.load(logits).astype(np.float64)
            self.assertTrue(np.isfinite(values).all())
            probabilities = np.exp(values - values.max(1, keepdims=True))
            probabilities /= probabilities.sum(1, keepdims=True)
            self.assertTrue((values.std(1) > 1.5).all() and (values.std(1) < 6).all(), kind)
            self.assertTrue((probabilities.max(1) < 0.9999).all(), kind)

    def test_vocabulary_from_a_file(self):
        out = self.folder / "x.gguf"
        self.succeed("synth", out, "--arch", "tiny", "--type", "Q8_0", "--vocab-from", NANO, "--tied", "0")
        ours, nano = reference.Gguf(out), reference.Gguf(NANO)
        self.assertEqual(ours.kv["tokenizer.ggml.tokens"], nano.kv["tokenizer.ggml.tokens"])
        self.assertEqual(list(map(int, ours.t["output.weight"][0])), [256, 4096])

    def test_refusals(self):
        out = self.folder / "x.gguf"
        self.refuse(2, "synth", out, "--arch", "huge", parts=["huge"])
        self.refuse(2, "synth", out, "--type", "Q4_K_Z", parts=["Q4_K_Z"])
        self.refuse(1, "synth", out, "--vocab-from", self.folder / "none.gguf", parts=["none.gguf"])
        out.write_text("kept")
        self.refuse(2, "synth", out, parts=["x.gguf"])
        self.assertEqual(out.read_text(), "kept")


if __name__ == "__main__":
    if "quantize" not in OFFERED:
        raise SystemExit(f"FAIL: {PROGRAM} offers no quantize verb")
    unittest.main(verbosity=1)
