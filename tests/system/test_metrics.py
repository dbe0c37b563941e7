"""Metrics as a worker writes them: promtool likes them, alerts fire when they have to, the dashboard shows what exists."""

import json
import re
import subprocess

import pytest
import yaml

from bed.process import ROOT, wait_until
from bed.service import REQUESTS

DIRECTORY = ROOT / "systemd/prometheus"
ALERTS = DIRECTORY / "alerts.yaml"
DASHBOARD = DIRECTORY / "dashboard.json"
SAMPLE = re.compile(r'^([a-z_]+)\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\} (\S+)$')


def promtool(*arguments, text=None):
    return subprocess.run(["promtool", *map(str, arguments)], input=text, text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def samples(text):
    """By name: each series' labels and value."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = SAMPLE.match(line).groups()
        found.setdefault(name, []).append((dict(re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', labels)), float(value)))
    return found


def value(found, name, **labels):
    matching = [number for had, number in found.get(name, []) if labels.items() <= had.items()]
    return sum(matching) if matching else None


@pytest.fixture(scope="module")
def written(bed):
    """What two workers of one host wrote after a bit of everything: requests, a failure, a retry, an outage."""
    bed.heal()
    service = bed.service()
    try:
        return use_a_bit_of_everything(service)
    finally:
        service.close()


def use_a_bit_of_everything(service):
    service.emulator.product()
    team = service.team()
    paths = [service.directory / f"portal-worker@{number}.prom" for number in (1, 2)]
    workers = [service.start_worker(PORTAL_METRICS_FILE=path, STRIPE_RATE_LIMIT="50") for path in paths]
    service.emulator.fault(status=500, count=1)
    assert service.ask({"team_id": team})["outcome"] == "created"
    assert service.ask({"team_id": team})["outcome"] == "reused"
    assert service.ask({"team_id": service.team(customer=None)})["redirect"]["code"] == "no_subscription"
    assert service.ask({"team_id": 999999999})["error"]["code"] == "team_not_found"
    assert service.ask({"team_id": "x"})["error"]["code"] == "invalid_request"
    assert service.ask({"team_id": 1, "padding": "x" * 17000})["error"]["code"] == "invalid_request"
    service.wait_empty(REQUESTS)
    service.bed.rabbitmq.close_connections()
    service.connect()
    assert service.ask({"team_id": team, "fresh": True})["outcome"] == "created"
    service.wait_empty(REQUESTS)

    def total():
        texts = [path.read_text() if path.exists() else "" for path in paths]
        done = sum(value(samples(text), "portal_requests_total") or 0 for text in texts)
        return texts if done >= 7 else None

    texts = wait_until(total, lambda: f"metrics of all\n{workers[0].tail()}", every=0.2)
    assert [worker.stop() for worker in workers] == [0, 0]
    return texts


def test_a_file_that_cannot_be_written_is_told_once_and_tried_again(service):
    service.emulator.product()
    folder = service.directory / "metrics"
    worker = service.start_worker(PORTAL_METRICS_FILE=folder / "portal-worker.prom")
    wait_until(lambda: "PORTAL_METRICS_FILE can't be written to" in worker.text(), "the log to say so")
    assert service.ask({"team_id": service.team()})["outcome"] == "created", "it works on"
    folder.mkdir()
    wait_until(lambda: list(folder.iterdir()), "the file to be there", every=0.1)
    assert worker.text().count("PORTAL_METRICS_FILE") == 1


def test_promtool_finds_nothing_wrong_with_the_file(written):
    for text in written:
        done = promtool("check", "metrics", text=text)
        assert (done.returncode, done.stdout) == (0, "")


def test_what_happened_was_counted(written):
    found = [samples(text) for text in written]

    def all_of(name, **labels):
        return sum(value(one, name, **labels) or 0 for one in found)

    assert all_of("portal_requests_total", outcome="created", code="") == 2
    assert all_of("portal_requests_total", outcome="reused") == 1
    assert all_of("portal_requests_total", outcome="redirect", code="no_subscription") == 1
    assert all_of("portal_requests_total", outcome="failed", code="team_not_found") == 1
    assert all_of("portal_dead_letters_total", reason="invalid_request") == 2, "one of them by the broker"
    assert all_of("portal_request_duration_seconds_count") == all_of("portal_requests_total")
    assert all_of("portal_stripe_calls_total", status="500") == 1 and all_of("portal_stripe_retries_total") >= 1
    assert all_of("portal_batch_rows_sum", kind="save") >= 4
    assert 1 <= all_of("portal_pauses_total", link="broker") <= 2, "a worker pauses once, whatever causes it finds"
    assert all_of("portal_requests_in_hand") == 0 and all_of("portal_build_info") == 2


def test_stages_tokens_and_reconnects_were_counted(written):
    found = [samples(text) for text in written]

    def all_of(name, **labels):
        return sum(value(one, name, **labels) or 0 for one in found)

    stages = "portal_request_stage_duration_seconds"
    requests = all_of("portal_requests_total")
    assert all_of(f"{stages}_count", stage="replying") == requests, "all were replied to"
    assert all_of(f"{stages}_count", stage="loading") == requests - 2, "all but the malformed"
    assert all_of(f"{stages}_count", stage="saving") == requests - 2
    assert all_of(f"{stages}_count", stage="calling") == all_of("portal_requests_total", outcome="created") == 2
    assert all_of(f"{stages}_count", stage="configuring") >= 1
    taken = all_of(f"{stages}_sum")
    assert 0 < taken <= all_of("portal_request_duration_seconds_sum") * 1.001

    calls = all_of("portal_stripe_calls_total")
    assert all_of("portal_stripe_call_wait_seconds_count") == calls
    assert all_of("portal_stripe_call_wait_seconds_sum") > 0, "a send time is asked for before the first call"
    leased = all_of("portal_rate_tokens_leased_total")
    assert calls <= leased - all_of("portal_rate_tokens_void_total") and 1 <= all_of("portal_rate_leases_total") <= leased

    workers = len(written)
    assert all_of("portal_connections_opened_total", link="store") == workers
    assert all_of("portal_connections_opened_total", link="broker") >= 2 * workers + 2, "they were cut once"
    assert 1 <= all_of("portal_connections_opened_total", link="stripe") < calls, "they are kept"


def test_files_of_several_workers_have_no_series_in_common(written):
    one, two = ({line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}
                for text in written)
    assert one and two and not one & two, "node_exporter would refuse them"


def test_every_query_asks_for_metrics_that_exist(written):
    types = {name: kind for text in written for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)}
    series = {name: labels for name, labels in
              ((f"{name}{suffix}", set().union(*({*had} for had, _ in samples(written[0]).get(f"{name}{suffix}", [])),
                                               *({*had} for had, _ in samples(written[1]).get(f"{name}{suffix}", []))))
               for name, kind in types.items()
               for suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",)))}
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    queries += [rule["expr"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len(queries) > 40
    used = set()
    for query in queries:
        names = set(re.findall(r"\bportal_[a-z_]+", query))
        assert names <= set(series) and (names or "node_textfile_mtime_seconds" in query), query
        for labels in re.findall(r"\bby \(([a-z, ]*)\)", query):
            known = {"instance", "le"}.union(*(series[name] for name in names if series[name]))
            if all(series[name] for name in names):
                assert set(labels.split(", ")) <= known, query
        used |= {re.sub(r"_(bucket|sum|count)$", "", name) if name not in types else name for name in names}
    assert used == set(types), "the dashboard shows everything there is"


def test_the_man_page_has_every_metric_and_its_labels(written):
    text = (ROOT / "systemd/man/portal-worker.8").read_text()
    told = {name: set(labels.replace(" ", "").split(",")) if labels else set()
            for line in re.findall(r"^\.It Li (portal_.*)$", text, re.MULTILINE)
            for name, labels in re.findall(r"(portal_[a-z_]+)(?: Ns Brq ([a-z]+(?: , [a-z]+)*)$)?", line)}
    found = {name: set() for page in written for name in re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)}
    for name, series in ((name, series) for page in written for name, series in samples(page).items()):
        base = name if name in found else re.sub(r"_(bucket|sum|count)$", "", name)
        found[base] |= {label for labels, _ in series for label in labels} - {"worker", "le"}
    assert told.keys() == found.keys()
    assert {name: labels for name, labels in found.items() if labels} == \
        {name: labels for name, labels in told.items() if found[name]}
    assert sum(map(bool, found.values())) > 12


def test_prometheus_takes_every_query_of_the_dashboard(tmp_path):
    """As the expression of a recording rule, with Grafana's own variables filled in."""
    queries = [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]
    rules = [{"record": f"query:{n}", "expr": query.replace("$__rate_interval", "1m").replace("$instance", ".*")
              .replace("$worker", ".*")} for n, query in enumerate(queries)]
    assert not [rule for rule in rules if "$" in rule["expr"]]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", path)
    assert done.returncode == 0 and f"{len(rules)} rules found" in done.stdout, done.stdout


def test_the_readme_names_panels_that_exist():
    titles = {panel["title"] for panel in json.loads(DASHBOARD.read_text())["panels"]}
    named = re.findall(r"dashboard ((?:\"[^\"|]+\"(?:, | and )?)+)", (ROOT / "README.md").read_text())
    named = [title for names in named for title in re.findall(r"\"([^\"]+)\"", names)]
    assert len(named) >= 4 and set(named) <= titles


def test_the_panels_of_the_dashboard_do_not_overlap():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [(x, y) for panel in panels for at in [panel["gridPos"]]
             for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24


def test_every_alert_fires_when_it_has_to(tmp_path):
    done = promtool("check", "rules", ALERTS)
    assert done.returncode == 0, done.stdout
    rules = yaml.safe_load(ALERTS.read_text())
    tests = yaml.safe_load((ROOT / "tests/system/alerts.test.yaml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    for rule in alerts:
        assert rule.pop("annotations").keys() == {"summary", "description"}  # promtool would compare them too
    cases = [case for test in tests["tests"] for case in test["alert_rule_test"]]
    for fires in (True, False):
        assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) == fires} == \
            {rule["alert"] for rule in alerts}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    tests["rule_files"] = [str(tmp_path / "rules.yaml")]
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    done = promtool("test", "rules", tmp_path / "tests.yaml")
    assert done.returncode == 0, done.stdout
