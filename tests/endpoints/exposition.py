"""What Prometheus' own linter (`promtool check metrics`) and its naming rules ask of an exposition."""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections.abc import Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

MOST_SERIES = 40  # of one family: a label's values are few, and known beforehand
BUCKETS = range(4, 20)
OTHER_UNITS = re.compile(
    r"_(ns|us|ms|milliseconds|microseconds|nanoseconds|minutes|hours|days|kb|mb|gb|kib|mib|percent|kilobytes|bits)(_|$)"
)
KINDS = re.compile(r"_(counter|gauge|histogram|summary|metric)(_|$)")
NAME = re.compile(r"[a-z][a-z0-9_]*")


def parsed(text: str) -> Sequence[Metric]:
    return list(text_string_to_metric_families(text))


def faults(text: str) -> list[str]:
    """What is wrong with it, in words."""
    families = parsed(text)
    return [*_of_lines(text), *(f"{family.name}: {fault}" for family in families for fault in _of_family(family))]


def _of_lines(text: str) -> Iterator[str]:
    lines = text.splitlines()
    for word in ("HELP", "TYPE"):
        named = Tally(line.split()[2] for line in lines if line.startswith(f"# {word} "))
        yield from (f"{name} has {count} lines of {word}" for name, count in named.items() if count > 1)
    for line in lines:  # of this the parser thinks nothing
        if line.startswith("# TYPE ") and line.endswith(" counter") and not line.split()[2].endswith("_total"):
            yield f"{line.split()[2]}: is a counter, and does not end in _total"
    series = Tally(line.rpartition(" ")[0] for line in lines if not line.startswith("#"))
    yield from (f"{name} is there {count} times" for name, count in series.items() if count > 1)
    if not text.endswith("\n"):
        yield "the last line does not end"


def _of_family(family: Metric) -> Iterator[str]:
    if not family.documentation.strip():
        yield "nobody says what it is"
    if not NAME.fullmatch(family.name) or not family.name.startswith(("saltpeter_", "process_")):
        yield "is no name of ours"
    if OTHER_UNITS.search(family.name):
        yield "is not in a base unit"
    if KINDS.search(family.name):
        yield "its kind is in its name"
    if family.type == "unknown":
        yield "is of no kind"
    yield from _of_samples(family)


def _of_samples(family: Metric) -> Iterator[str]:
    labels = {label for sample in family.samples for label in sample.labels}
    if family.type != "counter" and family.name.endswith(("_total", "_count", "_sum", "_bucket")):
        yield "ends like what it is not"
    if family.type != "histogram" and labels & {"le", "quantile"}:
        yield "has a label that is reserved"
    if {label for label in labels if not NAME.fullmatch(label)} or labels & {"job", "instance"}:
        yield "has a label that nobody can use"  # Prometheus sets job and instance itself
    if any(sample.value < 0 for sample in family.samples):
        yield "is below nought"
    if family.type == "histogram":
        yield from _of_histogram(family)
    elif len(family.samples) > MOST_SERIES:
        yield f"has {len(family.samples)} series"


def _of_histogram(family: Metric) -> Iterator[str]:
    if not family.name.endswith(("_seconds", "_bytes")):
        yield "does not say its unit"
    buckets = [sample for sample in family.samples if sample.name.endswith("_bucket")]
    bounds, counts = [float(each.labels["le"]) for each in buckets], [each.value for each in buckets]
    if len(bounds) not in BUCKETS or bounds != sorted(set(bounds)) or bounds[-1] != float("inf"):
        yield f"has the buckets {bounds}"
    [total] = [sample.value for sample in family.samples if sample.name.endswith("_count")]
    if counts != sorted(counts) or counts[-1] != total:
        yield "does not add up"
