"""What metrics say, by the name they have or that without `dinrail_`."""

from prometheus_client import CollectorRegistry


def counted(registry: CollectorRegistry, name: str, labels: dict[str, str]) -> float:
    """The value of a metric with exactly these labels; 0 if it has none."""
    found = registry.get_sample_value(f"dinrail_{name}", labels)
    return found or registry.get_sample_value(name, labels) or 0.0
