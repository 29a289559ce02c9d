//! How a command that measures ends: a table of figure, unit, goal, peer and ratio; or the same as one JSON object.

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::json;

/// What a figure is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Less than this.
    Below(f64),
}

impl Goal {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(goal) => value >= goal,
            Self::AtMost(goal) => value <= goal,
            Self::Below(goal) => value < goal,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(goal) => format!(">= {}", number(goal)),
            Self::AtMost(goal) => format!("<= {}", number(goal)),
            Self::Below(goal) => format!("< {}", number(goal)),
        }
    }
}

/// One measured number.
#[derive(Clone, Debug)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    goal: Option<Goal>,
    peer: Option<(&'static str, f64)>,
}

impl Figure {
    /// A number to know, without a goal.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            goal: None,
            peer: None,
        }
    }

    /// What it is to reach.
    pub fn goal(self, goal: Goal) -> Self {
        Self {
            goal: Some(goal),
            ..self
        }
    }

    /// Another program's number for the same work.
    pub fn peer(self, name: &'static str, value: f64) -> Self {
        Self {
            peer: Some((name, value)),
            ..self
        }
    }

    /// Ours divided by the peer's.
    fn ratio(&self) -> Option<f64> {
        self.peer
            .map(|(_, peer)| self.value / peer)
            .filter(|ratio| ratio.is_finite())
    }
}

#[derive(Serialize)]
struct Row<'f> {
    name: &'f str,
    value: f64,
    unit: &'static str,
    goal: Option<String>,
    /// Absent goals hold nothing, neither true nor false.
    holds: Option<bool>,
    peer: Option<serde_json::Value>,
    ratio: Option<f64>,
}

/// Prints the figures: a table on stdout, or with `json` the object on stdout and the table on stderr.
pub fn print(figures: &[Figure], json: bool) -> Result<()> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "figure",
        "value",
        "unit",
        "goal",
        "holds",
        "peer",
        "peer's value",
        "ratio",
    ]);
    for figure in figures {
        let holds = figure
            .goal
            .map(|goal| if goal.holds(figure.value) { "yes" } else { "NO" });
        table.add_row([
            figure.name.clone(),
            number(figure.value),
            figure.unit.to_owned(),
            figure.goal.map(Goal::text).unwrap_or_default(),
            holds.unwrap_or_default().to_owned(),
            figure.peer.map(|(name, _)| name).unwrap_or_default().to_owned(),
            figure.peer.map(|(_, value)| number(value)).unwrap_or_default(),
            figure.ratio().map(number).unwrap_or_default(),
        ]);
    }
    for column in [1, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if !json {
        println!("{table}");
        return Ok(());
    }
    eprintln!("{table}");
    let rows: Vec<Row<'_>> = figures
        .iter()
        .map(|figure| Row {
            name: &figure.name,
            value: figure.value,
            unit: figure.unit,
            goal: figure.goal.map(Goal::text),
            holds: figure.goal.map(|goal| goal.holds(figure.value)),
            peer: figure
                .peer
                .map(|(name, value)| json!({"name": name, "value": value})),
            ratio: figure.ratio(),
        })
        .collect();
    println!("{}", json!({ "figures": rows }));
    Ok(())
}

/// The middle one of several runs (of an even number, the lower of the two in the middle); 0 of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0.0)
}

/// Three significant digits; whole numbers whole.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || value == value.trunc() {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_no_mean() {
        assert_eq!(median([9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn goal_on_the_border() {
        assert!(Goal::AtLeast(25.0).holds(25.0));
        assert!(Goal::AtMost(2.0).holds(2.0));
        assert!(!Goal::Below(256.0).holds(256.0));
    }
}
