//! Why an answer is empty. Silence could mean that nothing happened or that nothing was seen; an answer must say which.

use wiretape_kfl::Filter;

use super::row::rfc3339;
use super::scope::Scope;
use crate::dissections::Summary;

/// The same of a dissection under way, of which it need not hold for long.
pub(super) fn so_far(summary: &Summary, nothing: &str) -> String {
    if summary.calls == 0 {
        return format!(
            "the dissection is under way: {} packets are read, and no call can be asked for yet",
            summary.packets
        );
    }
    format!("the dissection is under way; so far {nothing}")
}

/// Why no entry is in the answer. `total` match the filter in the window; `in_window` are in the window at all, of what
/// was asked for (`calls`, or other `entries`, too).
pub(super) fn nothing(
    summary: &Summary,
    scope: &Scope,
    filter: &Filter,
    total: u64,
    (in_window, entries): (u64, &str),
) -> String {
    if summary.packets == 0 {
        return "the files of this dissection hold no packets; was anything recorded in the snapshot's window?".to_owned();
    }
    if summary.calls == 0 && entries == "calls" {
        return format!(
            "{} packets were read, and no call was found in them{}",
            summary.packets,
            what_else(summary)
        );
    }
    if total > 0 {
        return format!("all {total} {entries} that match come before the cursor");
    }
    if in_window == 0 {
        let none = if entries == "calls" { "no call" } else { "nothing" };
        return format!("{none} began in that window; {}", span(summary));
    }
    let of = match (scope.start, scope.end) {
        (None, None) => format!("the {in_window} {entries} of this dissection"),
        _ => format!("the {in_window} {entries} in that window"),
    };
    format!("the filter ({filter}) matched none of {of}; {}", span(summary))
}

fn span(summary: &Summary) -> String {
    match (summary.first_call, summary.last_call) {
        (Some(first), Some(last)) => format!(
            "this dissection's calls began from {} to {}",
            rfc3339(first),
            rfc3339(last)
        ),
        _ => "this dissection has no calls".to_owned(),
    }
}

/// What the packets were, as far as the counters tell.
fn what_else(summary: &Summary) -> String {
    let told = [
        ("route.other_transport", "are neither TCP nor UDP nor ICMP"),
        ("route.not_ip", "are not IP"),
        (
            "route.dropped",
            "were dropped by the kernel before a socket had them",
        ),
        ("route.unknown_link", "are of an unknown link type"),
        (
            "dissect.calls_outside_window",
            "calls began outside of the snapshot's window",
        ),
        (
            "dissect.unrecognised",
            "views of connections spoke no protocol that is dissected",
        ),
        (
            "dissect.datagram_flows_unrecognised",
            "views of flows of datagrams spoke no protocol that is dissected",
        ),
    ];
    let counted = told.iter().filter_map(|(counter, what)| {
        let count = summary
            .counters
            .get(*counter)
            .copied()
            .filter(|count| *count > 0)?;
        Some(format!("{count} {what}"))
    });
    let counted: Vec<String> = counted.collect();
    if counted.is_empty() {
        String::new()
    } else {
        format!(": {}", counted.join(", "))
    }
}
