"""Drives a running server with the real `openai` package, as a user's program would.

    pip install -r requirements.txt
    FIRMAMENT_BASE_URL=http://127.0.0.1:8080/v1 python openai_client_test.py

Environment: FIRMAMENT_BASE_URL (needed); FIRMAMENT_API_KEY (any text will do on loopback);
FIRMAMENT_TEST_MODEL (else the first base model listed); FIRMAMENT_TEST_ADAPTER (else the adapter
check is skipped). Words as arguments choose the checks whose names hold one of them.
Exit status 1 if a check failed.

Owns: running the checks and counting them. Never: a check, or starting the server.
"""

import sys
import traceback
from collections import Counter

import checks_batch
import checks_chat
import checks_errors
import checks_structured
import checks_text
from target import Skipped, Target

CHECKS = [
    *checks_chat.CHECKS,
    *checks_structured.CHECKS,
    *checks_text.CHECKS,
    *checks_batch.CHECKS,
    *checks_errors.CHECKS,
]


def main(words: list[str]) -> int:
    target = Target()
    chosen = [c for c in CHECKS if not words or any(word in c.__name__ for word in words)]
    count = Counter(outcome(check, target) for check in chosen)
    skipped = f", {count['skipped']} skipped" if count["skipped"] else ""
    print(f"{count['passed']} passed, {count['failed']} failed{skipped}")
    return 1 if count["failed"] or not count["passed"] else 0


def outcome(check, target: Target) -> str:
    try:
        check(target)
    except Skipped as reason:
        print(f"skipped {check.__name__}: {reason}")
        return "skipped"
    except Exception:  # an assertion, or whatever the client raised: both are a failed check
        print(f"failed  {check.__name__}\n{traceback.format_exc()}")
        return "failed"
    print(f"passed  {check.__name__}")
    return "passed"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
