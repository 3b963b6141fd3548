use super::seconds;
use super::text::{MetricType, Text};
use crate::metrics::counters::CounterValues;

/// Writes the metrics of the appliance itself.
pub(super) fn write(text: &mut Text, counters: &CounterValues) {
    text.family(
        "bento_build_info",
        MetricType::Gauge,
        "The version of the appliance; always 1.",
    );
    text.sample(&[("version", &counters.version)], 1.0);
    text.one(
        (
            "bento_start_time_seconds",
            "Unix time at which the appliance started.",
        ),
        seconds(counters.started),
    );
    text.one(
        (
            "bento_problems",
            "Current problems, as `bento status` shows them.",
        ),
        counters.problems as f64,
    );
    let sessions = &counters.sessions;
    text.family(
        "bento_sessions",
        MetricType::Gauge,
        "Current connections with an sshd.",
    );
    text.sample(&[("authenticated", "no")], sessions.unauthenticated as f64);
    text.sample(&[("authenticated", "yes")], sessions.authenticated as f64);
    text.family(
        "bento_sessions_ended_total",
        MetricType::Counter,
        "Sessions that the appliance ended, by reason.",
    );
    for (reason, count) in &sessions.ended {
        text.sample(&[("reason", reason)], *count as f64);
    }
    let counters = [
        (
            "bento_sessions_accepted_total",
            "Connections that got an sshd.",
            sessions.accepted,
        ),
        (
            "bento_logins_total",
            "Sessions in which a machine authenticated.",
            sessions.logins,
        ),
        (
            "bento_publications_total",
            "Published generations.",
            counters.publications,
        ),
        (
            "bento_publication_failures_total",
            "Publications that failed because of the state, such as a full disk; each attempt counts.",
            counters.failed_publications,
        ),
        ("bento_reports_total", "Received reports.", counters.reports),
        (
            "bento_reports_refused_total",
            "Files in inboxes that weren't reports.",
            counters.refused,
        ),
        (
            "bento_notifications_total",
            "Delivered notifications.",
            counters.notifications,
        ),
        (
            "bento_notification_failures_total",
            "Notifications that failed; each attempt counts.",
            counters.failed_notifications,
        ),
    ];
    for (name, help, count) in counters {
        text.family(name, MetricType::Counter, help);
        text.sample(&[], count as f64);
    }
}
