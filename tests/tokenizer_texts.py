"""Texts for the tokenizer tests: hand-picked ones, and generated ones that depend only on a seed."""
import random
import unicodedata

# JavaScript and Unicode disagree about these as white space or under (?i); src/text/pretokenize_test.cpp settles them.
SETTLED_BY_HAND = {0x0085, 0x017F, 0xFEFF}

HAND_PICKED = [
    "", " ", "  ", "\n", "\n\n", "\r\n", "\t", "a", "Hello, world", "Hello, world!", " Hello world",
    "w048 7tuijk dsdfhu", " this is 🦙.cpp", "I'm you're he'll they've she'd it's don't", "I'M YOU'RE HE'LL THEY'VE SHE'D IT'S DON'T",
    "'s't're've'm'll'd", "''s '''t 'S'T'Re'vE'M'lL'D 'x'z", "O'Reilly's l'amour d'été qu'il", "rock 'n' roll", "can’t won’t",
    "0123456789", "3.14159 1,000,000 1e-9 0x1F 2024-01-31T23:59:59Z", "١٢٣ ४५६ ⅣⅤ ½¾ ²³ ①②",
    "a  b   c    d", " a\n b\n\n  c \n", "trailing spaces   ", "trailing newline \n", " \n \n x", "\t\tindent\n\t\t\tmore", "x \t\r\n y",
    "a\u00a0b\u2003c\u3000d\u200be", "line\u2028sep\u2029para", "\x0b\x0c\x1c\x1d\x1e\x1f", "nul\x00in\x01the\x7fmiddle",
    "!!!???...", "!!!\n\n???\r\n", " !!! \n", "$100 €50 £3 ¥9 ₹7", "#include <vector>\nint main() { return 0; }\n",
    "def f(x):\n    return x ** 2  # square\n", "SELECT * FROM t WHERE a='b' AND c IS NULL;", "for(i=0;i<n;++i){a[i]+=b[i]*c;}",
    "https://example.org/a/b?c=d&e=f#g", "user.name+tag@example.org", "C:\\Users\\x\\y.txt", "<html><body class=\"a\">&nbsp;</body></html>",
    "{\"k\": [1, 2.5, null, true], \"s\": \"\\u00e9\"}", "| a | b |\n|---|---|\n| 1 | 2 |", "**bold** _it_ `code`\n```py\nx\n```\n",
    "café", "cafe\u0301", "A\u030a\u0327", "e\u0327\u0301", "\u1e9b\u0323", "\u212b \u2126 \u212a", "\u0344 \u0958 \u0f43 \u2adc",
    "\u1112\u1161\u11ab\u1100\u1173\u11af", "한글 한국어 텍스트", "각\u11a8", "\uf900\uf901 \u2f800", "ﬁ ﬂ ﬃ ﬅ", "Ｆｕｌｌｗｉｄｔｈ　１２３",
    "Tiếng Việt có dấu", unicodedata.normalize("NFD", "Tiếng Việt có dấu"), unicodedata.normalize("NFD", "Ελληνικά Йод ёлка"),
    "日本語のテキスト、カタカナとひらがな。", "か\u3099き\u3099は\u309a", "中文文本，没有空格。第二句话！", "繁體中文與標點「符號」", "русский текст с буквами",
    "العربية مع تَشْكِيل", "עברית עם נִקּוּד", "हिन्दी में पाठ क्षत्रिय", "বাংলা লেখা", "தமிழ் உரை", "తెలుగు", "ไทยไม่มีช่องว่าง", "ລາວ", "မြန်မာ",
    "ភាសាខ្មែរ", "ქართული", "Հայերեն", "አማርኛ", "ᐃᓄᒃᑎᑐᑦ", "ᏣᎳᎩ", "བོད་ཡིག", "𐌰𐌱𐌲 𒀀𒀁 𓀀𓀁", "𝒜𝓫𝖈 𝟙𝟚", "ᚠᚢᚦ", "ⲁⲃⲅ",
    "👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 👨🏿‍🚀 ❤️ ☺︎ 1️⃣ #️⃣ 🇩🇪🇯🇵🇺🇸 🧑‍💻 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "🙂🙃😀" * 10,
    "\u202eright to left\u202c \u200e\u200f\u2066x\u2069", "soft\u00adhyphen zero\u200dwidth\u2060joiner", "\ufffd \ufffc \ue000 \U000f0000",
    "Z" + "\u0301\u0316" * 40, "z\u0334\u0320\u0310\u0342a\u0335l\u0336g\u0337o\u0338", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|><|endoftext|>", "a<|im_end|>b <|im_end|> c", "<|im_end", "<|im_end|", "<<|im_end|>>", "<|im_start|><|im_start|", "<tool_call>\n{}\n</tool_call>",
    "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", "<tool_call", "</tool_call>>", "e<tool_call>\u0301x", "<|repo_name|>r <|vision_pad|>",
    "a" * 1000, " " * 1000, "\n" * 300, "ab" * 700, "=" * 500, "-" * 77 + "\n" + "_" * 78, "1" * 300, "é" * 200, "e\u0301" * 200, "中" * 300,
    "\u0301" * 300, "\t " * 200, " \n" * 200, "\r" * 100, "aA" * 150, "x" * 255 + " " + "x" * 256 + " " + "x" * 257, "🙂" * 100, "'" * 64, "'s" * 64,
]

BLOCKS = [
    (0x20, 0x7E), (0xA1, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58F), (0x591, 0x5F4), (0x600, 0x6FF),
    (0x700, 0x7BF), (0x900, 0x97F), (0x980, 0x9FF), (0xA00, 0xAFF), (0xB00, 0xBFF), (0xC00, 0xD7F), (0xD80, 0xDFF), (0xE00, 0xEFF), (0xF00, 0xFFF),
    (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x139F), (0x13A0, 0x13FF), (0x1400, 0x167F), (0x1680, 0x16FF), (0x1780, 0x17FF),
    (0x1800, 0x18AF), (0x1D00, 0x1DFF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x20CF), (0x20D0, 0x20FF), (0x2100, 0x218F),
    (0x2190, 0x23FF), (0x2460, 0x24FF), (0x2500, 0x27BF), (0x2C00, 0x2DFF), (0x2E80, 0x2FDF), (0x3000, 0x30FF), (0x3100, 0x31FF), (0x3200, 0x33FF),
    (0x3400, 0x9FFF), (0xA000, 0xA4CF), (0xA640, 0xA7FF), (0xAA00, 0xABFF), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF),
    (0xFE00, 0xFFEF), (0x10000, 0x100FF), (0x10300, 0x103DF), (0x10A00, 0x10A5F), (0x11000, 0x111FF), (0x12000, 0x123FF), (0x13000, 0x1342F),
    (0x16F00, 0x16F9F), (0x1B000, 0x1B16F), (0x1D100, 0x1D1FF), (0x1D400, 0x1D7FF), (0x1E000, 0x1E02F), (0x1E900, 0x1E95F), (0x1F000, 0x1F2FF),
    (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0x2F800, 0x2FA1D), (0xE0020, 0xE007F), (0xE0100, 0xE01EF),
]
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", "\t\t", "\u00a0", "\u2003", "\u3000", "\x0b", "\x0c", "\u2028", "\u1680"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'lL", "'D", "'", "'x", "'r", "'l", "’s"]
CODE = ["{", "}", "()", "[i]", ";", "\n    ", "\n\t", " = ", "==", "!=", "->", "::", "//", "/* */", "#", "\"str\"", "'c'", "0xFF", "1.5f", "i++", "<T>",
        "&&", "||", "return ", "void ", "int ", "self.", "lambda x: ", "import ", "$VAR", "@decorator\n", "\\n", "%s", "~", "^", "`"]
EMOJI = ["👩", "👨", "👧", "🏽", "🏿", "\u200d", "\ufe0f", "\ufe0e", "❤", "🔥", "🚀", "🇫", "🇷", "🇧", "💻", "🏳", "🌈", "\u20e3", "1", "#", "☺"]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "</tool_call>", "<|fim_pad|>", "<|", "|>", "<", "<|im_", "end|>"]
WORDS = ("the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were all her she there "
         "would their we him been has when who will no more if out so up said what its about than into them can only other time new some could these two "
         "may first then do any like my now over such our man me even most made after also did many off before must well back through years where much "
         "your way down should because long each just state those people too mr how little good world make very year still see own work men day get here "
         "internationalization antidisestablishmentarianism Hello World HTTP JSON iPhone McDonald's x86_64 naïve façade Zürich København").split()


def assigned(code_point):
    return unicodedata.category(chr(code_point)) not in ("Cn", "Cs") and code_point not in SETTLED_BY_HAND


def letters_of_blocks():
    return [points for points in ([c for c in range(first, last + 1) if assigned(c)] for first, last in BLOCKS) if points]


def generated(n, seed):
    """n texts of mixed kinds. Every code point is assigned in Unicode 14.0 and none is in SETTLED_BY_HAND."""
    rng = random.Random(seed)
    blocks = letters_of_blocks()

    def word():
        points = rng.choice(blocks)
        return "".join(chr(rng.choice(points)) for _ in range(rng.randint(1, 8)))

    def marks():
        return rng.choice("aeouAEn각か") + "".join(chr(rng.choice(range(0x300, 0x36F))) for _ in range(rng.randint(1, 6)))

    kinds = [
        lambda: "".join(word() + rng.choice(SPACES + [""]) for _ in range(rng.randint(1, 12))),
        lambda: " ".join(rng.choice(WORDS) + (rng.choice(CONTRACTIONS) if rng.random() < 0.3 else "") for _ in range(rng.randint(1, 25))),
        lambda: "".join(rng.choice(CODE + WORDS[:20] + SPACES[:6]) for _ in range(rng.randint(1, 30))),
        lambda: "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 12))) + rng.choice(["", "a", "1", ".", "\u0301"]),
        lambda: "".join(rng.choice(EMOJI) for _ in range(rng.randint(1, 15))),
        lambda: unicodedata.normalize("NFD", "".join(word() for _ in range(rng.randint(1, 6)))),
        lambda: "".join(marks() + rng.choice(["", " "]) for _ in range(rng.randint(1, 8))),
        lambda: "".join(rng.choice("0123456789.,-+eE٣४ ") for _ in range(rng.randint(1, 30))),
        lambda: "".join(chr(rng.choice([*range(0x00, 0x21), 0x7F, *range(0x80, 0x85), *range(0x86, 0xA1)])) for _ in range(rng.randint(1, 15))),
        lambda: (word()[0] + rng.choice(["", " ", "'"])) * rng.randint(1, 300),
        lambda: "".join(rng.choice(CONTRACTIONS + WORDS[:10] + SPACES[:4]) for _ in range(rng.randint(1, 15))),
        lambda: "".join(rng.choice(SPECIAL + WORDS[:10] + SPACES[:4]) for _ in range(rng.randint(1, 10))),
        lambda: "".join(chr(rng.choice(rng.choice(blocks))) for _ in range(rng.randint(1, 40))),
        lambda: "".join(rng.choice("abAB'ls \n\t.1é中") for _ in range(rng.randint(1, 60))),
    ]
    return [rng.choice(kinds)() for _ in range(n)]
