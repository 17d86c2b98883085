#!/usr/bin/env python3
"""Sends a text to everybody in a table, waits for the end, and fetches the report.

    SWITCHBOARD_API_KEY=swb_... campaign.py people.csv ACCOUNT_ID 'Hello {{name|friend}}' report.csv

The table is CSV with a header row: phone (or customer_id, or external_id), optionally
timezone; other columns are variables of the text. Nothing but the standard library.
"""
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
import uuid

URL = os.environ.get("SWITCHBOARD_URL", "http://127.0.0.1:8080") + "/api/v1/campaigns"
KEY = os.environ["SWITCHBOARD_API_KEY"]


def call(method, path, body=None, content_type="application/json", once=None, tries=4):
    """Makes a call and returns the open answer. What got no answer is repeated: with
    an Idempotency-Key, or with a table, that does nothing twice."""
    headers = {"Authorization": "Bearer " + KEY}
    if body is not None:
        headers["Content-Type"] = content_type
    if once:
        headers["Idempotency-Key"] = once
    for attempt in range(1, tries + 1):
        try:
            if hasattr(body, "seek"):
                body.seek(0)
            return urllib.request.urlopen(urllib.request.Request(URL + path, body, headers, method=method))
        except urllib.error.HTTPError as refused:
            if refused.code not in (429, 502, 503) or attempt == tries:
                raise SystemExit(f"{method} {path}: {refused.code} {json.load(refused).get('detail')}")
        except (urllib.error.URLError, ConnectionError) as away:
            if attempt == tries:
                raise SystemExit(f"{method} {path}: {away}")
        time.sleep(attempt)


def main(table, account, text, report):
    once = str(uuid.uuid4())  # keep it beside your job, to be able to repeat the whole
    campaign = {"name": os.path.basename(table), "content": {"text": text}, "steps": [{"account_id": account}]}
    made = json.load(call("POST", "", json.dumps(campaign).encode(), once=once))
    path = "/" + made["id"]
    with open(table, "rb") as rows:  # streamed, whatever its size
        imported = json.load(call("PUT", path + "/recipients", rows, "text/csv"))
    print("accepted {accepted}, rejected {rejected}, duplicates {duplicates}".format(**imported))
    for error in imported["errors"][:10]:
        print(f"  line {error['line']}: {error['reason']}")
    if not imported["accepted"]:
        raise SystemExit("nobody to send to")
    run = json.load(call("POST", path + "/dry-run"))
    print(f"reaches {run['reachable']} of {run['recipients']}, takes {run['duration']}, costs {run['cost']['least']} to {run['cost']['most']}")
    call("POST", path + "/start", once=once + "-start").close()
    while True:
        now = json.load(call("GET", path))
        print(now["state"], {name: n for name, n in now["counts"].items() if n}, f"{now['rate']}/s", now["eta"] or "")
        if now["state"] in ("done", "canceled"):
            break
        time.sleep(2)
    with call("GET", path + "/export.csv") as rows, open(report, "wb") as out:
        shutil.copyfileobj(rows, out)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
