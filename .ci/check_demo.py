"""Checks the figures of `shoal demo --json`, read from standard input; of a fleet with `--edges N`."""
import argparse
import json
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--edges", type=int, default=1)
edges = parser.parse_args().edges

report = json.loads(sys.stdin.read())
served, origin, peer = report["served_bytes"], report["origin"], report["peer"]
checks = {
    "no errors": report["errors"] == 0,
    "no wrong bytes": report["mismatches"] == 0,
    "something was asked": report["requests"] > 1000,
    "memory served": served["memory"] > 0,
    "the origin served": served["origin"] > 0,
    "origin_ratio": abs(report["origin_ratio"] - origin["bytes"] / report["unique_bytes"]) < 1e-6,
    "offload": 0 < report["offload"] < 1,
}
if edges == 1:
    checks["each byte left the origin once"] = report["origin_ratio"] <= 1.01
    checks["nobody else was asked"] = served["peer"] == 0 and not any(peer.values())
else:
    checks["each byte left the origin about once"] = report["origin_ratio"] <= 1.05
    checks["peers served"] = served["peer"] > 0
    checks["the origin was asked under leases"] = peer["leases"] > 0
    checks["nobody was in quarantine"] = peer["quarantines"] == 0
failed = [name for name, holds in checks.items() if not holds]
print(json.dumps(report))
if failed:
    sys.exit(f"demo: not so: {', '.join(failed)}")
