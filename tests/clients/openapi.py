"""Schemathesis against a hub: requests made from its own description, good and bad, and answers held against it.

    python3 tests/clients/openapi.py http://127.0.0.1:8898     a hub with a snapshot and a dissection, both to be lost

It deletes what it finds: give it a hub of its own. Fetches Schemathesis into a folder of the cache when it is not there.
Fails when an answer is a 5xx but 503 (no agent answers), has a status, a content type or a shape that is not described, or when a request that
breaks the description is accepted.
"""

import os
import pathlib
import subprocess
import sys
import venv

# Held so that a run tells the same tomorrow.
SCHEMATHESIS = "schemathesis==4.32.5"
# Time for all of it, in seconds, and examples for each operation.
SECONDS, EXAMPLES = "240", "30"
# The transport of MCP, and the arguments of tools, of which those that are not known are named in warnings.
APART = r"^/mcp(/tools/\{tool\})?$"
# Filters, SQL and capture filters are languages, and names must exist: not every text that fits is accepted.
NOT_CHECKED = "positive_data_acceptance"
# A hub whose agents are out of reach says so.
CHECKS = """[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
"""


def program():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    folder = cache / "wiretape" / "schemathesis"
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", SCHEMATHESIS]
    subprocess.run(pip, check=True)
    return folder / "bin" / "schemathesis"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    schemathesis = program()
    config = schemathesis.parent.parent / "wiretape.toml"
    config.write_text(CHECKS)
    command = [schemathesis, "--config-file", config, "run", sys.argv[1].rstrip("/") + "/openapi.json"]
    command += ["--exclude-path-regex", APART, "--exclude-checks", NOT_CHECKED]
    command += ["--phases", "coverage,fuzzing", "--max-examples", EXAMPLES, "--max-time", SECONDS]
    command += ["--seed", "1", "--no-color"]
    sys.exit(subprocess.run(command).returncode)


if __name__ == "__main__":
    main()
