"""Whether the Ray cluster asks for a token. Later Rays do as soon as there is one, and tell their own commands; a
program that joins has to set RAY_AUTH_MODE before it imports ray."""
import os
import pathlib
import subprocess
import sys


def has_token():
    return ("RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
            or (pathlib.Path.home() / ".ray/auth_token").exists())


def settle():
    """Sets RAY_AUTH_MODE to token where a cluster runs that refuses who has none."""
    if "RAY_AUTH_MODE" in os.environ or not has_token():
        return
    answer = subprocess.run([sys.executable, "-m", "ray.scripts.scripts", "status"], capture_output=True, text=True, check=False)
    if "InvalidAuthToken" in answer.stdout + answer.stderr:
        os.environ["RAY_AUTH_MODE"] = "token"
