use super::seconds;
use super::text::{MetricType, Text};
use crate::metrics::counters::CounterValues;

/// What the appliance counts about itself.
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
            "What is wrong now, as `bento status` shows it.",
        ),
        counters.problems as f64,
    );
    let sessions = &counters.sessions;
    text.family(
        "bento_sessions",
        MetricType::Gauge,
        "Connections that have an sshd now.",
    );
    text.sample(&[("authenticated", "no")], sessions.unauthenticated as f64);
    text.sample(&[("authenticated", "yes")], sessions.authenticated as f64);
    text.family(
        "bento_sessions_ended_total",
        MetricType::Counter,
        "Sessions that the appliance ended, by the limit or the change that they ran into.",
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
            "Generations that were published.",
            counters.publications,
        ),
        (
            "bento_publication_failures_total",
            "Publications that the state stopped, such as on a full disk, each try counted.",
            counters.failed_publications,
        ),
        (
            "bento_reports_total",
            "Reports that were taken in.",
            counters.reports,
        ),
        (
            "bento_reports_refused_total",
            "Files in inboxes that weren't reports.",
            counters.refused,
        ),
        (
            "bento_notifications_total",
            "Notifications that were delivered.",
            counters.notifications,
        ),
        (
            "bento_notification_failures_total",
            "Notifications that weren't delivered, each try counted.",
            counters.failed_notifications,
        ),
    ];
    for (name, help, count) in counters {
        text.family(name, MetricType::Counter, help);
        text.sample(&[], count as f64);
    }
}
