#!/usr/bin/env python3
"""Makes src/text/testdata/chat_cases.json: what `transformers` renders for small chat templates.

Each case is a template of our own that exercises one corner of Jinja as chat templates use it, with
the expected text, or null where rendering must fail. Needs transformers and jinja2:

    python tools/chat_template_golden.py
"""

import json
import pathlib

from transformers.utils.chat_template_utils import render_jinja_template

OUT = pathlib.Path(__file__).resolve().parent.parent / "src/text/testdata/chat_cases.json"

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi \U0001f600 <b>&'\"</b>\n"},
    {"role": "assistant", "content": "  Hello, \u4f60\u597d!  "},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells the \"weather\" <in> a \u57ce\u5e02 & more\ttab",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
                "required": ["city"],
                "additionalProperties": False,
                "examples": [1.0, 0.1, 1e16, 1e-5, 1.5e300, -0.0, 123456789.125, None, True, [], {}],
            },
        },
    }
]

CHAT = """{{ bos_token }}{% for message in messages %}
    {% if message.role == 'system' %}
[S]{{ message['content'] | trim }}[/S]
    {%- elif message['role'] == 'user' %}
[U]{{- message.content -}}[/U]
    {% else %}
[A]{{ message.content.strip() }}{{ eos_token }}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}[A]{% endif %}
"""

# name, template, further arguments
CASES = [
    ("blocks and white space", CHAT, {}),
    ("no generation prompt", CHAT, {"add_generation_prompt": False}),
    ("continue, trimmed", CHAT, {"continue_final_message": True, "add_generation_prompt": False}),
    ("continue, spaces kept", "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}",
     {"continue_final_message": True, "add_generation_prompt": False}),
    ("continue, message not printed", "{% for m in messages %}<{{ m.role }}>{% endfor %}content",
     {"continue_final_message": True, "add_generation_prompt": False}),
    ("tojson", "{% for t in tools %}{{ t | tojson }}\n{{ t | tojson(indent=4) }}\n"
     "{{ t | tojson(separators=(',', ':')) }}\n{{ t | tojson(ensure_ascii=True, sort_keys=True) }}"
     "{% endfor %}{{ messages | tojson }}", {"tools": TOOLS}),
    ("tojson of strings", "{{ '\\x00\\x1f\\x7f/\\\\\"\\b\\f\\u2028' | tojson }}"
     "{{ none | tojson }}{{ 1 | tojson }}{{ true | tojson }}", {}),
    ("tojson of undefined", "{{ nothing | tojson }}", {}),
    ("no tools", "{{ tools is none }}{{ documents is none }}{{ tools is defined }}"
     "{% if tools %}x{% endif %}", {}),
    ("raise", "{{ raise_exception('Roles must alternate, ' ~ messages[0].role) }}", {}),
    ("raise in a macro", "{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{{ m() }}", {}),
    ("undefined attribute", "{{ nothing.at.all }}", {}),
    ("undefined prints nothing", "[{{ nothing }}][{{ messages[0].nothing }}]", {}),
    ("namespace and loop variables", "{% set ns = namespace(n=0, last='') %}{% for m in messages %}"
     "{% set ns.n = ns.n + m.content | length %}{% if loop.first %}F{% elif loop.last %}L{% endif %}"
     "{{ loop.index0 }}{{ loop.index }}{{ loop.revindex }}{{ loop.length }}"
     "{{ loop.previtem.role if loop.previtem is defined }}"
     "{{ loop.nextitem.role if loop.nextitem is defined }}{% endfor %}{{ ns.n }}", {}),
    ("slices and reversal", "{{ messages[1:] | length }}{% for m in messages[::-1] %}{{ m.role }}"
     "{% endfor %}{{ messages[-1].content[2:4] }}{{ messages[:-1] | map(attribute='role') | list }}",
     {}),
    ("string methods", "{% set s = '  <think>a b</think>c,d  ' %}{{ s.strip().split('</think>')[-1] }}|"
     "{{ s.split('</think>')[0].lstrip().rstrip() }}|{{ s.lstrip(' <') }}|{{ s.rstrip(' d') }}|"
     "{{ s.upper() }}|{{ s.title() }}|{{ s.replace('a', 'b') }}|{{ s.startswith('  <') }}|"
     "{{ s.endswith(('d', ' ')) }}|{{ s.find('b') }}|{{ 'a\\nb'.splitlines() }}|{{ ','.join(['x', 'y']) }}|"
     "{{ s.split() }}|{{ 'Abc'.removeprefix('A').removesuffix('c') }}|{{ 'a.b.c'.rsplit('.', 1)[0] }}|"
     "{{ s.count('a') }}|{{ '{} {}'.format('p', 1) }}", {}),
    ("dict methods", "{% set d = {'b': 1, 'a': none, 'c': [1, 2]} %}{{ d.keys() | list }}"
     "{{ d.values() | list }}{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{{ d.get('b') }}"
     "{{ d.get('z') }}{{ d.get('z', 'q') }}{{ 'a' in d }}{{ d['a'] is none }}{{ d | length }}"
     "{% for k, v in d | dictsort %}{{ k }}{% endfor %}{{ d | items | list }}", {}),
    ("printing values", "{{ true }}{{ none }}{{ 1.0 }}{{ 0.5 }}{{ [1, 'a', none, true] }}"
     "{{ {'k': 'v'} }}{{ 7 // 2 }}{{ 7 / 2 }}{{ 2 ** 3 }}{{ 7 % 4 }}{{ 'a' * 3 }}{{ -1 | abs }}", {}),
    ("tests", "{{ 'a' is string }}{{ {} is mapping }}{{ [] is iterable }}{{ [] is sequence }}{{ 1 is number }}"
     "{{ true is boolean }}{{ none is none }}{{ 'x' is defined }}{{ 3 is odd }}{{ 4 is divisibleby 2 }}"
     "{{ 1 is integer }}{{ 1.5 is float }}{{ true is true }}{{ 'a' is not mapping }}{{ 1 is sameas 1 }}"
     "{{ 1 is eq 1 }}{{ 'a' is in 'abc' }}", {}),
    ("filters", "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}"
     "{{ messages | rejectattr('role', 'eq', 'user') | map(attribute='role') | join('+') }}"
     "{{ [3, 1, 2] | sort }}{{ [1, 2] | first }}{{ [1, 2] | last }}{{ 'x' | default('y') }}{{ q | default('y') }}"
     "{{ '' | default('e', true) }}{{ 'ab' | upper }}{{ 'Ab' | lower }}{{ 'ab' | capitalize }}"
     "{{ ' a ' | trim }}{{ '3' | int + 1 }}{{ 'a\nb' | indent(2) }}{{ [1, 2, 3] | sum }}{{ 5 | string }}"
     "{{ [1, 1, 2] | unique | list }}{{ 'a<b' | e }}{{ 'a<b' | safe }}{{ 'aXb' | replace('X', 'Y') }}"
     "{{ [1,2,3] | batch(2) | list }}{{ {'a': 1}.items() | list }}{{ [[1, 2]] | map('first') | list }}", {}),
    ("loop controls", "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}"
     "{% if i > 4 %}{% break %}{% endif %}{{ i }}{% else %}none{% endfor %}{% for i in [] %}{% else %}E{% endfor %}", {}),
    ("macros and calls", "{% macro show(x, end='!') %}{{ x }}{{ end }}{% endmacro %}{{ show('a') }}"
     "{{ show('b', end='?') }}{% set t %}in {{ show('c') }}{% endset %}{{ t | trim }}", {}),
    ("recursive macro", "{% macro show(x) %}{% if x is mapping %}{% for k, v in x.items() %}{{ k }}({{ show(v) }})"
     "{% endfor %}{% else %}{{ x }}{% endif %}{% endmacro %}{{ show({'a': {'b': 1}, 'c': 2}) }}", {}),
    ("loop filter and unpacking", "{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ m.role }}{% endfor %}"
     "{% for a, b in [(1, 2), (3, 4)] %}{{ a + b }}{% endfor %}{% set x, y = 1, 2 %}{{ x }}{{ y }}", {}),
    ("conditions", "{{ 'a' if messages else 'b' }}{{ 1 if 0 }}{{ not [] and 'x' or 'y' }}{{ 1 < 2 <= 2 }}"
     "{{ 'user' == messages[1]['role'] and messages[1].content is defined }}{{ (messages | length) % 2 == 0 }}", {}),
    ("generation tags", "{% for m in messages %}\n  {%- generation -%}\n  {{ m.content }}\n{% endgeneration %}\n"
     "{% endfor %}", {}),
    ("raw, comments, line ends", "{# a comment #}\n{% raw %}{{ x }}{% endraw %}\n  {# c #}\nx\n\n", {}),
    ("whitespace control", "a  {%+ if true %}b{% endif +%}\n  c {{- 'd' -}}  e\n\t{% if true %}\nf\n{% endif %}\ng", {}),
    ("keyword arguments", "{{ thinking }}{{ effort }}{{ bos_token }}{{ enable is defined and enable is false }}",
     {"thinking": True, "effort": "high", "enable": False}),
    ("documents", "{% for d in documents %}{{ d.title }}: {{ d.text }}\n{% endfor %}",
     {"documents": [{"title": "A", "text": "b"}]}),
    ("string concatenation", "{{ 'a' + 'b' ~ 1 ~ none }}{{ 'x' + messages[0].role + '\\n' }}{{ [1] + [2] }}", {}),
    ("adding a number to text", "{{ 'a' + 1 }}", {}),
    ("date", "{{ strftime_now('%d %b %Y') }}", {}),
    ("syntax error", "{% if %}", {}),
    ("unclosed block", "{% for m in messages %}", {}),
]


def expected(template, arguments):
    arguments = {"add_generation_prompt": True, **arguments}
    if "strftime_now" in template:
        return "02 Jan 2024"  # the test sets the clock
    try:
        (text,), _ = render_jinja_template(
            conversations=[TALK], chat_template=template, bos_token="<s>", eos_token="</s>",
            **arguments)
        return text
    except Exception as e:  # any failure: which error it is belongs to Jinja
        print("  fails:", type(e).__name__, str(e)[:80])
        return None


def main():
    cases = []
    for name, template, arguments in CASES:
        print(name)
        cases.append({"name": name, "template": template, "arguments": arguments,
                      "expected": expected(template, arguments)})
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"messages": TALK, "cases": cases}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
