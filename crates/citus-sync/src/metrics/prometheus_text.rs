//! The exposition in the older Prometheus text format (0.0.4), made from the OpenMetrics one. In: the
//! text of the encoder. Out: the same numbers for readers that do not speak OpenMetrics.
//!
//! The two differ in three ways that matter here: OpenMetrics names the family of a counter without
//! `_total` and that of an info without `_info`, it has a type `info`, and it has lines for units and
//! for the end. Sources: the OpenMetrics specification 1.0, and
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

/// The same in the Prometheus text format.
pub(super) fn of(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    // The help comes before the type, and only the type says what the family is called.
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((_, help)) = help.take().filter(|(described, _)| *described == name) {
                push(&mut text, &["# HELP ", name, suffix, " ", help]);
            }
            push(&mut text, &["# TYPE ", name, suffix, " ", kind]);
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            push(&mut text, &[line]);
        }
    }
    text
}

fn push(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn counters_and_infos_are_called_as_their_samples_are() {
        let openmetrics = "# HELP a_steps Changes.\n# TYPE a_steps counter\n\
                           a_steps_total{database=\"x\\n# EOF\"} 1\n\
                           # HELP a_build This program.\n# TYPE a_build info\n\
                           a_build_info{version=\"1\"} 1\n\
                           # HELP a_held_seconds How long.\n# TYPE a_held_seconds histogram\n\
                           # UNIT a_held_seconds seconds\na_held_seconds_sum 0.1\n# EOF\n";
        let text = "# HELP a_steps_total Changes.\n# TYPE a_steps_total counter\n\
                    a_steps_total{database=\"x\\n# EOF\"} 1\n\
                    # HELP a_build_info This program.\n# TYPE a_build_info gauge\n\
                    a_build_info{version=\"1\"} 1\n\
                    # HELP a_held_seconds How long.\n# TYPE a_held_seconds histogram\n\
                    a_held_seconds_sum 0.1\n";
        assert_eq!(of(openmetrics), text);
    }
}
