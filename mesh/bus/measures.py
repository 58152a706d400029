"""What is measured of the bus."""

from mesh.telemetry.metrics import COUNTS, Instrument

CONSUMER_LAG = Instrument(
    "lares_consumer_lag_records",
    "gauge",
    "Records, of a partition that this process reads, that it has not finished or not even fetched.",
    ("topic", "partition"),
)
CONSUMER_UNFINISHED = Instrument(
    "lares_consumer_unfinished_records",
    "gauge",
    "Records that this process has fetched and not finished.",
    ("topic",),
)
CONSUMER_BATCH = Instrument(
    "lares_consumer_batch_records", "histogram", "Records that were taken at a time.", ("topic",), COUNTS
)
CONSUMER_SECONDS = Instrument(
    "lares_consumer_record_seconds",
    "histogram",
    "From a record that was taken until it is done: of media until they are detected, of facts until they are"
    " recorded.",
    ("topic",),
)
PUBLISHED = Instrument(
    "lares_published_records_total", "counter", "Records that were made durable.", ("topic",)
)
PUBLISH_SECONDS = Instrument(
    "lares_publish_seconds", "histogram", "From records to their durability, which wait for it together."
)
INSTRUMENTS = (
    CONSUMER_LAG,
    CONSUMER_UNFINISHED,
    CONSUMER_BATCH,
    CONSUMER_SECONDS,
    PUBLISHED,
    PUBLISH_SECONDS,
)
