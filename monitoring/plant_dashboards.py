"""Dashboards of the machines' values: for the history in InfluxDB, and for that in VictoriaMetrics."""

from monitoring.forms import (
    BAD,
    DOUBTFUL,
    GOOD,
    HISTORY,
    NONE,
    VICTORIA,
    Json,
    columns,
    dashboard,
    history,
    metrics,
    panel,
    variable,
)

QUALITY = {192: ("good", GOOD), 64: ("uncertain", DOUBTFUL), 0: ("bad", BAD)}

CHOSEN = '"site" =~ /^$site$/ AND "device" =~ /^$device$/ AND "tag" =~ /^$tag$/ AND $timeFilter'
NAMED = "$tag_device/$tag_tag"
ONE_EACH = f'SELECT last("q") AS "q" FROM "tag" WHERE {CHOSEN} GROUP BY "site", "device", "tag"'
LATEST = f'SELECT count("q") FROM ({ONE_EACH}) WHERE $timeFilter'


def plant() -> Json:
    """Values as InfluxDB has them."""

    def course(what: str, *, usable: bool = True) -> Json:
        """Of each tag, over time."""
        good = ' AND "q" >= 64' if usable else ""
        by = 'GROUP BY time($__interval), "device", "tag" fill(none)'
        return history(f'SELECT {what} FROM "tag" WHERE {CHOSEN}{good} {by}', NAMED)

    names = {"device": "device", "tag": "tag", "float": "number", "int": "whole", "bool": "on/off", "text": "text",
             "quality": "quality"}  # fmt: skip
    last = ", ".join(
        f'last("{field}") AS "{name}"'
        for field, name in zip("fibsq", ("float", "int", "bool", "text", "quality"), strict=True)
    )
    tags = 'SHOW TAG VALUES FROM "tag" WITH KEY'
    return dashboard(
        "dinrail-plant",
        "Plant",
        "What the machines say: values, states and their quality, as the history has them (InfluxDB).",
        [
            panel("stat", "Tags", history(LATEST), about="Tags that have a value in the "
                  "time shown.", wide=4, high=4),
            panel("stat", "Tags not good", history(f'{LATEST} AND "q" < 192'),
                  about="Tags whose latest value is bad or uncertain. No data: all are good.", wide=4, high=4,
                  bound=(1, BAD)),
            panel("timeseries", "Values recorded", history(
                f'SELECT count("q") FROM "tag" WHERE {CHOSEN} GROUP BY time($__interval), "device" fill(0)',
                "$tag_device"), about="Points that reached the history per interval. A step down to 0 is an outage; it "
                "fills again when the backlog has come.", wide=16, high=6, minimum=0),
            panel("timeseries", "Numbers", course('mean("f")'), course('mean("i")'), about="Means of the usable values "
                  "(good or uncertain) of each interval. A hole is time without a usable value.", wide=24, high=10),
            panel("state-timeline", "On and off", course('last("b")'), about="Tags of type bool.", wide=12),
            panel("state-timeline", "Texts", course('last("s")'), about="Tags of type string, and whole numbers that "
                  "no field of InfluxDB can hold.", wide=12),
            panel("state-timeline", "Quality", course('min("q")', usable=False), about="The worst quality of each "
                  "interval.", wide=24, states=QUALITY),
            panel("table", "Latest values", history(
                f'SELECT {last} FROM "tag" WHERE {CHOSEN} GROUP BY "device", "tag"', table=True),
                about="The last value of each type, and the latest quality; a value beside the quality `bad` is the "
                "last one before that.", wide=24, high=10, transformations=columns(names)),
        ],
        [
            variable("site", f'{tags} = "site"', HISTORY, label="site"),
            variable("device", f'{tags} = "device" WHERE "site" =~ /^$site$/', HISTORY, label="device"),
            variable("tag", f'{tags} = "tag" WHERE "site" =~ /^$site$/ AND "device" =~ /^$device$/', HISTORY,
                     label="tag"),
        ],
    )  # fmt: skip


def plant_in_victoria() -> Json:
    """Values as VictoriaMetrics has them: numbers alone."""
    chosen = 'site=~"$site",device=~"$device",tag=~"$tag"'
    every = '{__name__=~"tag_[fib]",' + chosen + "}"
    quality = f"last_over_time(tag_q{{{chosen}}}[1d])"
    named = "{{device}}/{{tag}}"

    def usable(what: str, function: str) -> str:
        """Without values whose quality, as it was last told, is bad."""
        return f"{function}({what}{{{chosen}}}[$__interval]) and on (site, device, tag) {quality} >= 64"

    def asked(expression: str, legend: str = "", *, at_once: bool = False) -> Json:
        return metrics(expression, legend, at_once=at_once, source=VICTORIA)

    return dashboard(
        "dinrail-plant-victoria",
        "Plant (VictoriaMetrics)",
        "What the machines say, for the profile with VictoriaMetrics: numbers and on/off alone, to the millisecond.",
        [
            panel("stat", "Tags", asked(f"count({quality})", at_once=True), about="Tags that had a value in the last "
                  "day.", wide=4, high=4),
            panel("stat", "Tags not good", asked(f"count({quality} < 192) or vector(0)", at_once=True),
                  about="Tags whose latest value is bad or uncertain.", wide=4, high=4, bound=(1, BAD)),
            panel("timeseries", "Values recorded", asked(
                f"sum by (device) (count_over_time({every}[$__interval]))", "{{device}}"), about="Numbers that reached "
                "the history per interval. A step down is an outage; it fills again when the backlog has come.",
                wide=16, high=6, minimum=0),
            panel("timeseries", "Numbers", asked(usable("tag_f", "avg_over_time"), named),
                  asked(usable("tag_i", "avg_over_time"), named), about="Means of each interval, without values that "
                  "are bad.", wide=24, high=10),
            panel("state-timeline", "On and off", asked(usable("tag_b", "last_over_time"), named),
                  about="Tags of type bool.", wide=12, states={1: ("on", GOOD), 0: ("off", NONE)}),
            panel("state-timeline", "Quality", asked(quality, named), about="As it was last told: a good value says it "
                  "only when it was not good before.", wide=12, states=QUALITY),
            panel("table", "Latest values", asked(f"last_over_time({every}[1d])", at_once=True), about="The last "
                  "number of each tag within a day.", wide=24, high=10, transformations=columns(
                      {"device": "device", "tag": "tag", "Value": "value"})),
        ],
        [
            variable("site", "label_values(tag_q, site)", VICTORIA, label="site"),
            variable("device", 'label_values(tag_q{site=~"$site"}, device)', VICTORIA, label="device"),
            variable("tag", 'label_values(tag_q{site=~"$site",device=~"$device"}, tag)', VICTORIA, label="tag"),
        ],
    )  # fmt: skip
