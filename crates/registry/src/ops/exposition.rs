//! The numbers as OpenMetrics text, which Prometheus reads.

use super::{
    metrics::Metrics,
    surroundings::{Kind, Reading},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};
use std::{fmt, sync::Arc};

/// What [`text`] gives.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The registry's own numbers, then the others.
pub fn text(metrics: &Arc<Metrics>, readings: Vec<Reading>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Requests(metrics.clone())));
    registry.register_collector(Box::new(Readings(readings)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Requests(Arc<Metrics>);

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = ("cidery_http_requests", "Requests that ended, by route, method and status");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (route, method, code, count) in self.0.requests() {
            let labels = [("route", route), ("method", method), ("code", &code)];
            counter(family.encode_family(&labels)?, count)?;
        }
        let (name, help) = ("cidery_http_request_duration_seconds", "From a request's head to the end of its answer");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (route, method, (sum, count, buckets)) in self.0.durations() {
            let labels = [("route", route), ("method", method)];
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        let (received, sent) = self.0.bytes();
        let (name, help) = ("cidery_http_received_bytes", "Bytes of request bodies that came");
        counter(encoder.encode_descriptor(name, help, None, MetricType::Counter)?, received)?;
        let (name, help) = ("cidery_http_sent_bytes", "Bytes of answers' bodies that were sent");
        counter(encoder.encode_descriptor(name, help, None, MetricType::Counter)?, sent)?;
        let (name, help) = ("cidery_http_requests_in_flight", "Requests whose answer has not been sent yet");
        encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&self.0.in_flight())
    }
}

#[derive(Debug)]
struct Readings(Vec<Reading>);

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self.0.chunk_by(|one, next| one.name == next.name) {
            let Some(Reading { name, help, kind, .. }) = family.first() else { continue };
            let metric_type = match kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut encoder = encoder.encode_descriptor(name, help, None, metric_type)?;
            for reading in family {
                if reading.labels.is_empty() {
                    value(&mut encoder, reading)?;
                } else {
                    value(&mut encoder.encode_family(&reading.labels)?, reading)?;
                }
            }
        }
        Ok(())
    }
}

fn value(encoder: &mut MetricEncoder<'_>, reading: &Reading) -> fmt::Result {
    match reading.kind {
        Kind::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(&reading.value, None),
        Kind::Gauge => encoder.encode_gauge(&reading.value),
    }
}

fn counter(mut encoder: MetricEncoder<'_>, count: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, f64>(&count, None)
}
