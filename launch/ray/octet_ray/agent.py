"""What mpirun calls in place of ssh: `agent [options] HOST COMMAND ...` runs COMMAND on HOST.

Hands both to the driver (octet_ray.__main__), which has the actors, through the socket OCTET_RAY_AGENT, and ends
with the command's exit code. When it is killed, the driver ends the command.
"""
import json
import os
import socket
import sys


def main():
    words = sys.argv[1:]
    while words and words[0].startswith("-"):  # options of ssh
        words.pop(0)
    with socket.socket(socket.AF_UNIX) as driver:
        driver.connect(os.environ["OCTET_RAY_AGENT"])
        driver.sendall(json.dumps({"host": words[0], "command": " ".join(words[1:])}).encode() + b"\n")
        answer = driver.makefile().readline()
    sys.exit(int(answer or 1))


if __name__ == "__main__":
    main()
