#!/usr/bin/env python3
"""contrib/ruvltra.1 from what the program says of itself:

    tools/make_man.py build/ruvltra > contrib/ruvltra.1

tests/package_test.py compares the two."""
import re
import subprocess
import sys

HELP_COLUMN = 34  # HelpLayout in apps/program.cpp

FILES = [
    ("$XDG_CONFIG_HOME/ruvltra/config.toml", "Settings of one person; read instead of the next one."),
    ("/etc/ruvltra/config.toml", "Settings of the machine and of the service."),
    ("$XDG_DATA_HOME/ruvltra", "What was learned, unless --data-dir names another folder."),
    ("/var/lib/ruvltra", "The same of the service (systemctl start ruvltra)."),
    ("/usr/share/ruvltra/models", "The bundled models; demo is one of them."),
    ("/usr/share/doc/ruvltra/docs", "The whole documentation; cli.md, server.md and http-api.md among it."),
]


def roff(text):
    """Plain text as roff text: no character of it is a command."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha")
    text = text.replace("~", "\\(ti")
    return "\\&" + text if text.startswith((".", "'")) else text


def help_of(program, *words):
    return subprocess.run([program, *words, "--help"], capture_output=True, text=True, check=True).stdout


def read_help(text):
    """Description, usage, groups of (name, help), examples of one help text."""
    lines = text.rstrip("\n").split("\n")
    description, usage = lines[0], lines[1].removeprefix("Usage: ")
    groups, examples, footer, at = [], [], [], 2
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line:
            continue
        if line == "Examples:":
            examples = [example.strip() for example in lines[at:] if example.strip()]
            break
        if not line.startswith(" ") and line.endswith(":"):
            groups.append((line[:-1], []))
        elif line.startswith("  ") and line[2] != " ":
            name, text = line[:HELP_COLUMN].strip(), line[HELP_COLUMN:].strip()
            if len(line.rstrip()) > HELP_COLUMN and line[HELP_COLUMN - 1] != " ":  # a name too long for its column
                name, text = line.strip(), ""
            groups[-1][1].append([name.replace("{false}", "").replace("=[]", ""), text])
        elif line.startswith(" " * HELP_COLUMN):
            entry = groups[-1][1][-1]
            entry[1] = (entry[1] + " " + line.strip()).strip()
        else:
            footer.append(line)
    return description, usage, groups, examples, footer


def entries(group):
    out = []
    for name, text in group:
        # "--temp T=0.7": the names in bold, the rest as it is.
        names, _, rest = name.partition(" ")
        out += [".TP", f"\\fB{roff(names)}\\fR" + (f" {roff(rest)}" if rest else ""), roff(text)]
    return out


def main():
    program = sys.argv[1]
    description, _, groups, _, footer = read_help(help_of(program))
    verbs = [(name, text) for title, group in groups if title == "Verbs" for name, text in group]
    out = ['.\\" Made by tools/make_man.py from the help texts; do not edit.', '.TH RUVLTRA 1 "" ruvltra "User Commands"',
           ".SH NAME", "ruvltra \\- language model engine that learns from its users", ".SH SYNOPSIS", ".B ruvltra",
           "\\fIVERB\\fR [\\fIOPTION\\fR]...", ".SH DESCRIPTION", roff(description),
           "Without a network, without other programs: a small trained model is part of the package.", ".SH VERBS"]
    out += entries(verbs)
    for verb, _ in verbs:
        text, usage, groups, examples, _ = read_help(help_of(program, verb))
        out += [f".SH RUVLTRA {verb.upper()}", f".B {roff(usage)}", ".PP", roff(text) + "."]
        for title, group in groups:
            group = [entry for entry in group if title != "General"]  # the same of every verb
            if group:
                out += [f".SS {roff(title)}"] + entries(group)
        out += [".SS Examples", ".nf"] + [roff(example) for example in examples] + [".fi"]
    _, _, groups, _, _ = read_help(help_of(program, "version"))
    out += [".SH OPTIONS OF EVERY VERB"] + entries(dict(groups)["General"])
    out += [".SH ENVIRONMENT",
            roff("Every long option --foo-bar is also the variable RUVLTRA_FOO_BAR and the key foo_bar of the settings file, "
                 "at top level or in the table [VERB]. Order: flag, environment, file, profile, default. Unknown keys are "
                 "errors. RUVLTRA_CONFIG names the file; NO_COLOR and RUVLTRA_NO_PROGRESS quieten a terminal.")]
    out += [".SH FILES"]
    for name, text in FILES:
        out += [".TP", f".I {roff(name)}", roff(text)]
    codes = re.search(r"Exit codes: (.*)", "\n".join(footer)).group(1)
    out += [".SH EXIT STATUS", roff(codes[0].upper() + codes[1:] + "."), ".SH SEE ALSO", ".BR systemctl (1)"]
    print("\n".join(out))


if __name__ == "__main__":
    main()
