#!/usr/bin/env python3
"""Sends a text to everybody in a table and waits for the end: campaign.py people.csv ACCOUNT_ID 'Hello {{name|friend}}'"""
import json, os, sys, time, urllib.error, urllib.request

url, key = os.environ.get("SWITCHBOARD_URL", "http://127.0.0.1:8080"), os.environ.get("SWITCHBOARD_API_KEY")
if len(sys.argv) != 4 or not key:
    sys.exit(__doc__ + "\nSWITCHBOARD_API_KEY is the key: switchboard apikey add --name mailing")
table, account, text = sys.argv[1:]
once = os.environ.get("ONCE", f"{time.time_ns()}")  # the same ONCE again goes on, and makes nothing twice

def api(method, path, body=None, kind="application/json", once=""):
    for wait in (1, 2, 4, None):  # what got no answer is asked again
        try:
            if hasattr(body, "seek"):
                body.seek(0)
            headers = {"Authorization": "Bearer " + key, "Content-Type": kind} | ({"Idempotency-Key": once} if once else {})
            return json.load(urllib.request.urlopen(urllib.request.Request(url + "/api/v1/campaigns" + path, body, headers, method=method)))
        except urllib.error.HTTPError as refused:
            if wait is None or refused.code not in (429, 502, 503, 504):
                sys.exit(f"{method} {path}: {refused.code} {refused.read().decode()}")
        except OSError as away:
            if wait is None:
                sys.exit(f"{method} {path}: {away}")
        time.sleep(wait)

made = api("POST", "", json.dumps({"name": f"{os.path.basename(table)} {once}", "content": {"text": text}, "steps": [{"account_id": account}]}).encode(), once=once)
path = "/" + made["id"]
now = api("GET", path)
if now["state"] == "draft":
    with open(table, "rb") as rows:  # streamed, whatever its size
        got = api("PUT", path + "/recipients", rows, "text/csv")
    print({name: got[name] for name in ("accepted", "rejected", "duplicates")}, got["errors"][:10])
    now = api("POST", path + "/start", once=once + "-start")
while print(now["state"], now["counts"], now["rate"], now["eta"], now["waiting"], flush=True) or now["state"] not in ("done", "canceled"):
    time.sleep(2)
    now = api("GET", path)
sys.exit(now["state"] != "done")
