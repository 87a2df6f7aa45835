//! In which of its two formats a client wants the metrics. In: the `Accept` header. Out: the format.

use axum::http::{HeaderMap, header};

use crate::metrics::Format;

/// The media type of OpenMetrics, without its parameters.
const OPENMETRICS: &str = "application/openmetrics-text";

/// The format that is asked for: OpenMetrics where that is named and no other is liked better. A
/// client that names neither (curl, an old scraper) gets the format that every reader understands.
pub(super) fn wanted(headers: &HeaderMap) -> Format {
    let mut openmetrics = 0.0;
    let mut text: f32 = 0.0;
    let values = headers.get_all(header::ACCEPT).iter();
    let ranges = values.filter_map(|value| value.to_str().ok());
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts
            .filter_map(|parameter| parameter.strip_prefix("q="))
            .find_map(|quality| quality.parse::<f32>().ok())
            .unwrap_or(1.0);
        match media_type.as_str() {
            OPENMETRICS => openmetrics = quality.max(openmetrics),
            "text/plain" | "text/*" | "*/*" => text = quality.max(text),
            _ => {}
        }
    }
    if openmetrics > 0.0 && openmetrics >= text {
        Format::OpenMetrics
    } else {
        Format::PrometheusText
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_goes_to_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (Some(prometheus), Format::OpenMetrics),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (
                Some("Application/OpenMetrics-Text; charset=utf-8"),
                Format::OpenMetrics,
            ),
            (Some("text/plain"), Format::PrometheusText),
            (Some("*/*"), Format::PrometheusText),
            (Some("text/html"), Format::PrometheusText),
            (
                Some("application/openmetrics-text;q=0"),
                Format::PrometheusText,
            ),
            (
                Some("application/openmetrics-text;q=0.1, text/plain"),
                Format::PrometheusText,
            ),
            (Some("\u{0}"), Format::PrometheusText),
            (None, Format::PrometheusText),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = accept.and_then(|accept| accept.parse().ok()) {
                headers.insert(header::ACCEPT, value);
            }
            assert_eq!(wanted(&headers), format, "{accept:?}");
        }
    }
}
