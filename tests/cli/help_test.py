#!/usr/bin/env python3
"""docs/ and `octet VERB --help` name the same flags, with the same defaults.

    tests/cli/help_test.py path/to/octet

Every flag of a verb's --help is on its page (in its section there, where one page has several verbs);
every flag that the page's sections of options name is one of --help; and the defaults of its tables
are those of --help. Names are compared with `_` for `-`."""
import re
import sys
import unittest

from testing import ROOT, octet

# Verb: its page, and the headings of its section, where others share the page.
PAGES = {
    "quantize": ("quantize.md", None),
    "quantize quant": ("quantize.md", "msModelSlim v1's command"),
    "serve": ("serve.md", None),
    "chat": ("chat.md", None),
    "generate": ("chat.md", None),
    "eval": ("eval.md", None),
    "report": ("report.md", None),
    "compare": ("compare.md", None),
    "inspect": ("inspect.md", "inspect"),
    "check": ("inspect.md", "check"),
    "convert": ("convert.md", None),
    "bench machine": ("bench.md", "bench machine"),
    "bench attention": ("bench.md", "bench attention"),
    "bench kernels": ("bench.md", "bench kernels"),
    "bench offline": ("bench.md", "bench offline"),
    "bench sums": ("bench.md", "bench sums"),
    "bench make-model": ("bench.md", "bench make-model"),
    "plan": ("distributed.md", "What it will take"),
    "completion": ("", None),  # takes no flags
}
FLAG = re.compile(r"(?<![\w-])--?[A-Za-z][\w.-]*")


def folded(name):
    if re.match("-[a-z]{2}", name):  # -tp, which is --tp
        name = "-" + name
    return "--" + name[2:].replace("_", "-") if name.startswith("--") else name


def flags_in(text):
    """Of code in Markdown: `...` and indented blocks."""
    code = re.findall(r"`[^`]+`", text) + re.findall(r"^    .*$", text, re.M)
    return {folded(name.rstrip(".")) for piece in code for name in FLAG.findall(piece)}


def verbs(*above):
    """All verbs, with those below them."""
    lines = octet(*above, "--help").stdout.splitlines()
    start = lines.index("Subcommands:") + 1 if "Subcommands:" in lines else len(lines)
    for line in lines[start:]:
        if not (match := re.match(r"  (\S+)", line)):
            break
        yield (*above, match[1])
        yield from verbs(*above, match[1])


def options_of(verb):
    """{name: default or None}, of every name that --help shows; a `--no-` form goes with its flag."""
    found = {}
    for line in octet(*verb.split(), "--help").stdout.splitlines():
        if not (match := re.match(r"  (-\S+)(?: (?! )(.*?))?(?:  .*)?$", line)):
            continue
        default = re.search(r"=(\S+)$", match[2] or "")
        for name in match[1].split(","):
            name = name.split("{")[0]
            if not name.startswith("--no-") and name not in ("-h", "--help"):
                found[folded(name)] = default[1] if default else None
    return found


def sections(page):
    """[(heading, text)]; what stands before the first heading of the second level has "" for one."""
    parts = re.split(r"^## (.*)$", (ROOT / "docs" / page).read_text(), flags=re.M)
    return [("", parts[0]), *zip(parts[1::2], parts[2::2])]


def rows(text):
    """Of the tables of options: [first cell, second cell]."""
    found, wanted = [], False
    for line in text.replace(r"\|", "/").splitlines():
        if not line.startswith("|"):
            wanted = False
        elif re.match(r"\| (option|flag) \|", line):
            wanted = True
        elif wanted and line.startswith("| "):
            found.append([cell.strip() for cell in line.strip("|").split("|")][:2])
    return found


def same(a, b):
    try:
        return float(a) == float(b)
    except ValueError:
        return a == b


class Docs(unittest.TestCase):
    def test_every_verb_has_a_page(self):
        all_verbs = {" ".join(verb) for verb in verbs()}
        self.assertEqual(all_verbs - {"bench"}, set(PAGES))

    def test_flags_of_help_are_on_the_page(self):
        for verb, (page, heading) in PAGES.items():
            text = "".join(text for title, text in sections(page) if heading in (None, title)) if page else ""
            missing = set(options_of(verb)) - flags_in(text)
            with self.subTest(verb):
                self.assertEqual(sorted(missing), [], f"octet {verb} --help has them, docs/{page} does not")

    def test_flags_of_the_page_exist(self):
        for page in {page for page, _ in PAGES.values() if page}:
            known = {name for verb, (of, _) in PAGES.items() if of == page for name in options_of(verb)}
            named = set()
            for heading, text in sections(page):
                named |= flags_in("".join(first for first, _ in rows(text)))
                if re.match("options|flags", heading, re.I):
                    named |= flags_in(text)
            wrong = {name for name in named - known if not name.startswith("--no-")}
            with self.subTest(page):
                self.assertEqual(sorted(wrong), [], f"docs/{page}: no such flags")

    def test_defaults(self):
        compared = 0
        for verb, (page, heading) in PAGES.items():
            options = options_of(verb)
            for title, text in sections(page) if page else ():
                if heading not in (None, title):
                    continue
                for first, cell in rows(text):
                    names = [folded(name) for name in FLAG.findall(first)]
                    values = cell.split(", ")
                    if own := [value.split()[0] for value in values if value.endswith(" " + verb)]:
                        values = own  # "128 generate, 512 chat"
                    if len(values) != len(names):  # "0, all": a default, and what it means
                        values = [values[0]] * len(names)
                    for name, value in zip(names, values):
                        if options.get(name) is None or not cell:
                            continue
                        compared += 1
                        with self.subTest(verb, flag=name):
                            self.assertTrue(same(value, options[name]), f"docs/{page}: {value}, --help: {options[name]}")
        self.assertGreater(compared, 20)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
