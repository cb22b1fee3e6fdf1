"""Checks the figures of `shoal demo --json`, read from standard input."""
import json
import sys

report = json.loads(sys.stdin.read())
served, origin = report["served_bytes"], report["origin"]
checks = {
    "no errors": report["errors"] == 0,
    "no wrong bytes": report["mismatches"] == 0,
    "something was asked": report["requests"] > 1000,
    "memory served": served["memory"] > 0,
    "the origin served": served["origin"] > 0,
    "each byte left the origin once": origin["bytes"] <= 1.01 * report["unique_bytes"],
    "origin_ratio": abs(report["origin_ratio"] - origin["bytes"] / report["unique_bytes"]) < 1e-6,
    "offload": 0 < report["offload"] < 1,
}
failed = [name for name, holds in checks.items() if not holds]
print(json.dumps(report))
if failed:
    sys.exit(f"demo: not so: {', '.join(failed)}")
