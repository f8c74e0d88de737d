"""Certificate of a complete output, `NAME.run/manifest.json`: its origin, and checksums to verify it by."""

import json
from collections import Counter

from runner.core.checksum import checksum_of_text
from runner.data.columns import types_by_name
from runner.data.rows import RowTypes, dtype_to_json
from runner.host.versions import installed_versions
from runner.records.ledger import Ledger


def make_manifest(output: str, row_type: RowTypes, ledger: Ledger, bad_rows: int, file_checksum: str) -> str:
    """Return the manifest of an output whose chunks are all committed, as JSON."""
    fingerprint = ledger.fingerprint  # not this job's: an earlier version may have begun the run, with fewer fields
    assert fingerprint is not None
    return (
        json.dumps(
            {
                "output": output,
                "num_rows": fingerprint["num_rows"],
                "columns": {
                    name: {"row_shape": list(column.shape), "dtype": dtype_to_json(column.dtype)}
                    for name, column in types_by_name(row_type).items()
                },
                "file_checksum": file_checksum,
                "quarantined_rows": bad_rows,
                "nonfinite_rows": sum(commit.nonfinite for commit in ledger.commits.values()),
                "cut_rows": sum(commit.cut_rows for commit in ledger.commits.values()),
                "cut_tokens": sum(commit.cut_tokens for commit in ledger.commits.values()),
                "token_limit": max((commit.token_limit for commit in ledger.commits.values()), default=0),
                "counts": dict(sum((Counter(commit.counts) for commit in ledger.commits.values()), Counter())),
                "halved_batches": sorted(batch for commit in ledger.commits.values() for batch in commit.halved),
                "chunks": len(ledger.commits),
                "chunks_checksum": chunks_checksum(ledger),
                "run": fingerprint,
                "restarts": len(ledger.jobs) - 1,
                "jobs": ledger.jobs,
                "versions": installed_versions(),
            },
            indent=2,
        )
        + "\n"
    )


def chunks_checksum(ledger: Ledger) -> str:
    """Return one checksum for all rows: of the rows and checksums of the chunks in order."""
    return checksum_of_text("".join(f"{c.start} {c.stop} {c.checksum}\n" for _, c in sorted(ledger.commits.items())))
