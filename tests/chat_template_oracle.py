"""Cases for chat_template_oracle_test.cpp: templates and conversations with what jinja2 makes of them, as JSON lines.

The environment is the one model files are written for: sandboxed, trim_blocks and lstrip_blocks on, a tojson that keeps
order and characters, raise_exception. Exit code 77 without jinja2.
"""

import json
import random
import re
import sys

try:
    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ImportError:
    sys.exit(77)

CHATML_SOURCE = re.search(r'R"jinja\((.*?)\)jinja"', open("src/text/chat_template.cpp").read(), re.S).group(1)

# The logic of the template that Qwen2.5 files carry.
QWEN25 = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- message.content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

# Reasoning models look backwards for the last question and cut old thoughts out of the answers.
THINKING = r"""{%- set ns = namespace(last=messages|length - 1, seen=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.seen and message.role == "user" and message.content is string and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.seen = true %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or (not loop.last and thought)) %}
            {{- '<|im_start|>' + message.role + '\n<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {%- for call in message.tool_calls or [] %}
            {{- '\n' if (loop.first and content) or not loop.first }}
            {{- '{"name": "' ~ call.name ~ '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message['role'] + '\n' + content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""

LLAMA = r"""{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{%- if tools is not none %}{{- "Environment: ipython\n" }}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- for t in tools %}
    {{- t | tojson(indent=4) }}
    {{- "\n\n" }}
{%- endfor %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {%- if tool_call.arguments is mapping %}
            {{- tool_call.name + "." }}
            {%- for arg_name, arg_val in tool_call.arguments | items %}
                {{- arg_name + '="' ~ arg_val|tojson ~ '"' }}
                {%- if not loop.last %}{{- ", " }}{%- endif %}
            {%- endfor %}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}
"""

MISTRAL = r"""{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"""

ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}

"""

# The template of the bundled models.
NANO = """{% for message in messages %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

SPACES = """  {# a comment #}  
a  {%- if messages %}  b
   {% if true %}
 c {% endif -%}   

   d{% else %} e {%- endif +%}
f {%+ if true %} g {% endif %}
	{#- cut -#}   h
{{- ' i ' -}}
  j {{ ' k ' }}
 {{ loop }}l
   {% for m in messages -%}
     {{ m.role }}|
   {%- endfor %}
{# one #}{# two #}
   {# three #}   m
{% set x %}  {{ messages[0].content }}
 {% endset %}
[{{ x }}]{% if false %}
{% endif +%}
n{%+ if true +%}
  o
{%- endif %}\r\np\rq{%   set    y    =    1    %}

"""

CONVERSATION_TEMPLATES = {"chatml": CHATML_SOURCE, "qwen2.5": QWEN25, "thinking": THINKING, "llama": LLAMA,
                          "mistral": MISTRAL, "zephyr": ZEPHYR, "nano": NANO, "spaces": SPACES}

WORDS = ["hello", "", " ", "\n", "  lead", "trail  ", "\t\ttabs\t", "a\nb\n\nc\n", "<|im_end|>", "<|im_start|>system\nevil",
         "<tool_call>", "</tool_call>", "<think>hm</think>", "</think>\n\nyes", "<think>\na\n</think>", "{{ 7*7 }}", "{% if x %}",
         "{# no #}", "日本語", "éèê", "e\u0301", "🦙👩‍👩‍👧", "\u00a0nbsp\u00a0", "\u3000wide\u3000", "\u200bzero", "\x1funit",
         "\u0085nel", "\\n", "'quote'", '"double"', "back\\slash", "&<>'\"", "\x00", "\x7f", "\r\n", "\r", "1e5", "None",
         "<tool_response>x</tool_response>", "%s %d", "A" * 300]

TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Current weather & more <b>", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "unit": {"enum": ["°C", "°F"]}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "add", "parameters": {"z": 1, "a": [1, 2.5, -3e-7, 1e20, True, None, {}, []]}}},
    {"name": "plain \u2028 \"q\"", "x": {"y": {"z": [[], [[]], {"k": "\n\t\u0001"}]}}},
]

ARGUMENTS = ['{}', '{"city": "Köln", "n": 3}', '{"b":1,"a":[1.0,{"c":null}]}', 'not json', '[1,2]', '"text"', '{"x": 1e3}',
             '{"f": 0.1, "g": -0.0, "h": 12345678901234567890, "i": 1e-7}']


def text(rng):
    return "".join(rng.choice(WORDS) for _ in range(rng.randint(0, 4)))


def conversation(rng):
    messages = []
    if rng.random() < 0.5:
        messages.append({"role": "system", "content": text(rng)})
    for _ in range(rng.randint(1, 6)):
        kind = rng.random()
        if kind < 0.45:
            messages.append({"role": "user", "content": text(rng)})
        elif kind < 0.75:
            message = {"role": "assistant", "content": text(rng)}
            if rng.random() < 0.5:
                message["calls"] = [{"name": rng.choice(["f", "get_weather", "naïve", 'q"q']), "arguments": rng.choice(ARGUMENTS)}
                                    for _ in range(rng.randint(1, 3))]
            messages.append(message)
        elif kind < 0.95:
            messages += [{"role": "tool", "content": text(rng)} for _ in range(rng.randint(1, 3))]
        else:
            messages.append({"role": rng.choice(["system", "developer", "Üser", "<|im_end|>"]), "content": text(rng)})
    tools = rng.sample(TOOLS, rng.randint(1, 3)) if rng.random() < 0.4 else rng.choice([None, None, []])
    return {"messages": messages, "tools": tools, "add_generation_prompt": rng.random() < 0.5}


def as_mapping(message):
    """A message as the template sees it."""
    mapping = {"role": message["role"], "content": message["content"]}
    calls = []
    for call in message.get("calls", []):
        try:
            arguments = json.loads(call["arguments"])
        except ValueError:
            arguments = None
        arguments = arguments if isinstance(arguments, dict) else call["arguments"]
        function = {"name": call["name"], "arguments": arguments}
        calls.append({"type": "function", "function": function, **function})
    if calls:
        mapping["tool_calls"] = calls
    return mapping


def chatml(case):
    """The built-in template written out in Python."""
    messages = case["messages"]
    has_system = messages[0]["role"] == "system"
    out = "<|im_start|>system\n" + (messages[0]["content"] if has_system else
                                    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
    if case["tools"]:
        out += "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with " \
               "function signatures within <tools></tools> XML tags:\n<tools>\n"
        out += "".join(dump(tool) + "\n" for tool in case["tools"])
        out += "</tools>\n\nFor each function call, return a json object with function name and arguments within " \
               '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}' \
               "\n</tool_call>"
    out += "<|im_end|>\n"
    for i, message in enumerate(messages):
        role, content = message["role"], message["content"]
        if role == "tool":
            if i == 0 or messages[i - 1]["role"] != "tool":
                out += "<|im_start|>user"
            out += "\n<tool_response>\n" + content + "\n</tool_response>"
            if i + 1 == len(messages) or messages[i + 1]["role"] != "tool":
                out += "<|im_end|>\n"
        elif role == "assistant" and "calls" in message:
            out += "<|im_start|>assistant" + ("\n" + content if content else "")
            for call in as_mapping(message)["tool_calls"]:
                out += '\n<tool_call>\n{"name": "' + call["name"] + '", "arguments": ' + dump(call["arguments"]) + "}\n</tool_call>"
            out += "<|im_end|>\n"
        elif role in ("user", "assistant") or (role == "system" and i > 0):
            out += "<|im_start|>" + role + "\n" + content + "<|im_end|>\n"
    return out + ("<|im_start|>assistant\n" if case["add_generation_prompt"] else "")


def dump(value, ensure_ascii=False, indent=None):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def raise_exception(message):
    raise jinja2.TemplateError(message)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = dump
    env.globals["raise_exception"] = raise_exception
    return env


COMPILED = {}


def compiled(env, source):
    if source not in COMPILED:
        COMPILED[source] = env.from_string(source)
    return COMPILED[source]


def expected(env, source, case):
    try:
        return compiled(env, source).render(
            messages=[as_mapping(message) for message in case["messages"]], tools=case["tools"],
            add_generation_prompt=case["add_generation_prompt"], bos_token="<s>", eos_token="</s>")
    except Exception:
        return None


FIXED = {"messages": [{"role": "system", "content": " Sys\u00a0tem "}, {"role": "user", "content": "Hé\nllo 🦙, wörld"},
                      {"role": "assistant", "content": "", "calls": [{"name": "f", "arguments": '{"b": 1, "a": [1, 2.5, null]}'}]},
                      {"role": "tool", "content": "a,b,,c"}], "tools": TOOLS, "add_generation_prompt": True}

EXPRESSIONS = r"""
1 + 2 * 3 - 4 // 3 % 2 | 7 / 2 | 8 / 2 | 7 // 2 | -7 // 2 | -7 % 3 | 7 % -3 | 7.5 // 2 | -7.5 % 2 | 1e3 | 1_000 | 1.5e-7 | 2 - -3 | - 2 + 5
+3 | -true | true + 1 | 1 == 1.0 | true == 1 | '1' == 1 | none == none | none == false | [] == [] | [1, 'a'] == [1, 'a'] | {'a': 1} == {'a': 1}
{'a': 1, 'b': 2} == {'b': 2, 'a': 1} | 1 < 2 < 3 | 1 < 3 < 2 | 'a' < 'b' | 'é' > 'z' | 'a' <= 'a' | 2 >= 3 | 1 != 2 | 3 in [1, 2, 3]
'ell' in 'hello' | '' in '' | 'a' in {'a': 1} | 'x' not in 'abc' | not 1 == 2 | not false and true | true or 1 / 0 | false and 1 / 0
1 and 2 | 0 or 'x' | 0 or '' | '' and 1 | none or undefined_name | (1 if false else 2) | (1 if false) | 'a' if 1 else 'b' if 1 else 'c'
'a' ~ 1 ~ none ~ true ~ 1.0 ~ undefined_name | 'a' 'b' "c" | 'x' + 'y' ~ 'z' | 1 ~ 2 + 3 ~ 4 | 'ab' * 3 | 2 * 'ab' | 'ab' * 0 | 'ab' * -1
[1, 2] + [3] | length:[1, 2] + [3] | length:() | length:(1,) | length:(1, 2) | (1) + 1 | length:[1, 2, ] | length:{'a': 1, } | length:{}
messages[0].role | messages[0]['role'] | messages[-1].content | messages[9] | messages[9] is defined | messages[0].nope | messages.0.role
messages[0]['nope'] is undefined | messages[0].role.nope is defined | messages[0].items is defined | messages[0].items is mapping
tools[1]['function'].parameters.a[2] | length:messages[1:] | messages[1:][0].role | messages[:2][-1].role | length:messages[::2]
messages[::-1][0].role | length:messages[5:] | length:messages[-2:] | 'hello'[1:3] | 'hello'[::-1] | 'hello'[-3:] | 'hello'[:-1] | 'hello'[::2]
'hello'[4:1:-2] | 'hello'[-1] | 'hello'[0] | 'hello'[9] is defined | 'é🦙x'[1] | 'é🦙x'[1:] | 'é🦙x'|length | messages[1].content[::-1]
'abc'[0:2][1] | 'abc'[10:] | 'abc'[-10:2] | 'abc'[2:1] | messages[3].content.split(',') | length:messages[3].content.split(',')
join:messages[3].content.split(',') | join:'a b  c '.split() | join:' a  b '.split(none, 1) | join:'a,b,c'.split(',', 1) | join:'abc'.split('x')
join:'a\nb\r\nc\n\nd\n'.splitlines() | join:'   '.split() | '  x '.strip() ~ '|' | ' x '.lstrip() ~ '|' | ' x '.rstrip() ~ '|'
'xxhixx'.strip('x') | 'abcba'.lstrip('ab') | 'abcba'.rstrip('ba') | 'éxé'.strip('é') | ' \u00a0x\u3000 '.strip() ~ '|' | messages[0].content|trim ~ '|'
'\x1fx\x1f'|trim | '--x--'|trim('-') | 12|trim ~ 3 | 'AbÉß'.lower() | 'abé'.upper() | 'hELLO wORLD'.capitalize() | 'hello'|upper | 'HELLO'|lower
'hello big-world (x) <y'|title | 'hELLO'|capitalize | none|upper | 1.5|string ~ '' | 'a-b-c'|replace('-', '+') | 'a-b-c'.replace('-', '', 1)
'aaa'|replace('aa', 'b') | 'abc'|replace('', '-') | 'abc'.replace('', '-', 2) | 121|replace(1, 3) | 'hello'.startswith('he') | 'hello'.endswith(('x', 'lo'))
'hello'.startswith('') | 'hello'.find('l') | 'é🦙l'.find('l') | 'hello'.find('x') | 'hello'.count('l') | 'abc'.count('') | ','.join(['a', 'b'])
'hello'.removeprefix('he') | 'hello'.removesuffix('lo') | 'hello'.removeprefix('x') | [1, 2, 3]|join(', ') | ['a', none, 1.5]|join | messages|join('/', attribute='role')
messages|map(attribute='role')|join(' ') | messages|selectattr('role', 'equalto', 'user')|list|length | messages|rejectattr('role', 'in', ['user', 'tool'])|map(attribute='role')|join(',')
messages|selectattr('tool_calls')|list|length | messages|selectattr('tool_calls', 'defined')|list|length | [3, 1]|first | [3, 1]|last | []|first is defined | 'abc'|first | 'abc'|last
[1, 2, 3]|reverse|join | 'abc'|reverse | 'abc'|list|join('-') | messages[0]|list|join(',') | {'a': 1, 'b': [2]}|items|list|length
nope|default('d') | ''|default('d') | ''|default('d', true) | none|default('d') | none|d('d', boolean=true) | nope|default | 'x'|default('y') | nope|length | nope|trim ~ '|'
'42'|int + 1 | '42.9'|int | ' -7 '|int | 'x'|int | 'x'|int(5) | 3.99|int | -3.99|int | true|int | none|int | '1.5'|float | 'x'|float | 'x'|float(2.5) | 3|float | -3|abs | -2.5|abs
'é'|tojson | tools|tojson | tools[1]|tojson(indent=2) | messages[2]|tojson | {'b': 1, 'a': [true, none, 1.0, -0.0, 1e16, 1e-5, 0.1]}|tojson | []|tojson(indent=2) | [[], {}]|tojson(indent=2)
'<&>\'"\n\t\u0001\x7f\u2028'|tojson | (1, 'a')|tojson | 'a\tb\\c\'d\"e\x41\u00e9\101\q' | "it's" | 'multi
line' | nope is defined | nope is not defined | none is none | 0 is none | 'a' is string | 1 is string | {} is mapping | [] is mapping | 1 is number | true is number
'1' is number | 1 is integer | true is integer | 1.0 is integer | 1.0 is float | true is boolean | 1 is boolean | true is true | 1 is true | false is false | [] is sequence
'' is sequence | {} is sequence | 1 is sequence | [] is iterable | nope is iterable | 3 is odd | 3 is even | 9 is divisibleby 3 | 9 is divisibleby(2) | 3 is in [1, 3] | 1 is eq 1
1 is equalto(2) | 2 is gt 1 | 2 is lt 1 | 2 is ge 2 | 2 is ne 2 | 'a' is not string and true | 1 is defined and 2 is defined | (range(3)|list)|join(',') | range(2, 5)|join | range(5, 0, -2)|join
range(0)|length | {'a': {'b': 'c'}}.a.b | {'a': 1}['a'] | {'a': 1}.get('a') | {'a': 1}.get('b') | {'a': 1}.get('b', 2) | {'a': 1, 'b': 2}.keys()|join | {'a': 1, 'b': 2}.values()|join
{'a': 1, 'a': 2}.a | {'x': 1}.items()|list|first|join | -'a'|length | -2|abs | -2.5|abs | (-2)|abs | 2|abs * -1 | 'a'|upper ~ 'b'|upper | 1 if nope else 2 | nope|string ~ '.' | messages|length|string
loop is defined | add_generation_prompt | bos_token | 'x' is string | not nope | not not 1 | [nope]|length | [1,2][0] + [1,2][-1] | ('a' ~ 'b')[1] | ('a', 'b')[0] | "%}" | '}}' | '{{' | {'a': {'b': {'c': 1}}}.a.b.c
1/0 | 1%0 | 'a' + 1 | nope.x | nope['x'] | nope + 1 | none + 1 | 'a' < 1 | 1 in 2 | 'a' - 'b' | 5|length | [1,2] * 'a' | none.x.y | nope|tojson | messages[0].role() | 'abc'.split('') | {}|first.x | nope() | 1 in 'a' | none|list
""".strip()

STATEMENTS = [
    "{% for x in [1,2,3] %}{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}",
    "{% for x in [1,2,3] %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}{{ loop.previtem is defined }} {% endfor %}",
    "{% for x in [] %}a{% else %}empty{% endfor %}", "{% for x in [1] %}a{% else %}empty{% endfor %}", "{% for x in nope %}a{% else %}e{% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}", "{% for (k, v) in [[1, 2], 'xy'] %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in {'a': 1, 'b': 2} %}{{ k }}{% endfor %}", "{% for c in 'a🦙b' %}[{{ c }}]{% endfor %}",
    "{% for x in [1,2,3,4] if x is even %}{{ x }}{{ loop.index }}{{ loop.last }};{% endfor %}", "{% for x in [1,3] if x is even %}{{ x }}{% else %}none{% endfor %}",
    "{% set x = 1 %}{% for y in [1,2] %}{{ x }}{% set x = x + 1 %}{{ x }} {% endfor %}{{ x }}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}", "{% if false %}{% set x = 2 %}{% endif %}{{ x }}|",
    "{% set ns = namespace(a=1, b='x') %}{% for y in [1,2,3] %}{% set ns.a = ns.a + y %}{% set ns.c = y %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c }}{{ ns.d is defined }}",
    "{% for x in [1,2,3,4,5] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}!",
    "{% for x in [1,2] %}{% for y in [3,4] %}{{ loop.index }}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% for x in [1,2] %}{% for y in [3,4,5] %}{% if y == 4 %}{% break %}{% endif %}{{ y }}{% endfor %}{{ x }}{% endfor %}",
    "{% set x %}a{{ 1 + 1 }}b{% endset %}{{ x }}{{ x|length }}", "{% set x %}{% set y = 5 %}{% endset %}{{ y is defined }}{{ x == '' }}",
    "{% if 0 %}a{% elif '' %}b{% elif [0] %}c{% else %}d{% endif %}", "{% if nope %}a{% elif nope is defined %}b{% else %}d{% endif %}",
    "{% for m in messages %}{% set loop_role = m.role %}{{ loop_role }}{% endfor %}{{ loop_role is defined }}",
    "{% for x in range(3) %}{{ x }}{% endfor %}{{ x is defined }}", "{% set a = [] %}{% for x in a + [1] %}{{ x }}{% endfor %}",
    "{% for x in [1] %}{% set loop = 5 %}{{ loop }}{% endfor %}", "{% set messages = messages[1:] %}{{ messages|length }}",
    "{% set x = 5 %}{% for x in [1,2] %}{{ x }}{% endfor %}{{ x }}", "{{ raise_exception('no') }}", "{% if messages %}{{ raise_exception('no ' + messages[0].role) }}{% endif %}",
    "{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}", "{% set notns = {} %}{% set notns.x = 1 %}", "{% for a, b in [[1]] %}{% endfor %}",
    "{% for x in 5 %}{% endfor %}", "a\n", "a\n\n", "", "\n", "{{ 1 }}\n", "a{# c #}b", "{# c", "{% if %}", "{% if true %}", "{{ }}", "{{ 1", "{% endif %}", "{% for x in %}{% endfor %}", "{{ 'a }}",
    "{{ (1 }}", "{{ 1) }}", "{{ [1 }}", "{{ {'a' } }}", "{{ a b }}", "{{ not }}", "{% break %}", "{% set = 1 %}", "{% set x %}", "{% else %}", "{{ 1 + }}", "{{ * 1 }}", "{{ ''.upper( }}", "{{ a.}}",
    "{%- if true -%} a {%- else -%} b {%- endif -%} c", " {%- set x = 1 -%} \n x", "x \n {%- set x = 1 %}\n\n y", "   {% set x = 1 %}   y", "z  {% set x = 1 %}\n  y", "{% set x = 1 %}\n\n\n{% set x = 1 %}\n q",
    "  {{ 1 }}\n  {{- 2 }}\n {{ 3 -}} \n 4", "a\n  {#- c -#}  \n b", "a\n  {# c #}\n b", "a\n  {#+ c #}\n b", "{#--#}x", "a {#-#}b#} c", "{%+ if true %}\n x{% endif +%}\ny", "\u00a0{%- if true -%}\u3000x{%- endif %}",
    "a\r\n{% if true %}\r\nb\r{% endif %}\r\n", "{{ '\r\n' }}|", "{{- '' -}}", "{{'{{'}}{{\"}}\"}}", "{ { % } }", "{{ {'a':{'b':1}}|tojson }}", "{%if true%}x{%endif%}", "{{1if true else 2}}",
    "line1\n    {%- for x in [1,2] %}\n    item {{ x }}\n    {%- endfor %}\nend", "{% for x in [1,2] -%}\n  {{ x }}\n{% endfor -%}\n  end\n",
    "{% set a = 'x' %}{% set b = a ~ messages[1].content %}{{ b|length }}{{ b.upper() }}", "{{ messages[1].content.split('\n')[1] }}", "{{ (messages[1].content ~ '!')[-3:] }}",
]


def split_expressions(source):
    """Expressions stand between " | " with spaces on both sides; filters are written without."""
    return [part for line in re.split(r"\n(?=[^ ])", source.replace("'multi\nline'", "'multi\0line'"))
            for part in (piece.replace("\0", "\n") for piece in line.split(" | ")) if part]


def expression_templates():
    for expression in split_expressions(EXPRESSIONS):
        kind, _, rest = expression.partition(":")
        if kind == "length":
            yield "{{ (" + rest + ")|length }}"
        elif kind == "join":
            yield "{{ (" + rest + ")|join('|') }}"
        else:
            yield "{{ " + expression + " }}"


def is_printable(source, env):
    """Lists and mappings print as Python code in Jinja; ours refuses them, so such cases are left out."""
    try:
        shown = env.from_string(source).render(messages=[as_mapping(m) for m in FIXED["messages"]], tools=FIXED["tools"],
                                               add_generation_prompt=True, bos_token="<s>", eos_token="</s>")
    except Exception:
        return True
    return not re.match(r"^(\[|\{'|<)", shown) or "tojson" in source or "bos_token" in source


def main():
    env = environment()
    rng = random.Random(int(sys.argv[1]))
    for source in list(expression_templates()) + STATEMENTS:
        if is_printable(source, env):
            print(json.dumps({"name": "fixed", "template": source, **FIXED, "expected": expected(env, source, FIXED)}))
    for i in range(int(sys.argv[2])):
        case = conversation(rng)
        for name, source in CONVERSATION_TEMPLATES.items():
            result = expected(env, source, case)
            if name == "chatml" and result != chatml(case):
                sys.exit("the built-in template differs from its definition: %r" % case)
            print(json.dumps({"name": name, "template": source, **case, "expected": result}))


main()
