//! The chart, rendered: plain manifests for clusters without Helm, and what the chart's switches make.
//!
//! The chart is the source. What it renders to is committed beside it, so that a change of a template is read as a change
//! of manifests, and so that nobody needs Helm to deploy. Helm's engine comes from PyPI, as a library.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{programs, setup};

/// Where the chart is.
const CHART: &str = "deploy/helm/wiretape";

/// What is rendered: with which values, into which file.
const RENDERED: &[(&str, &str)] = &[
    (
        "deploy/helm/wiretape/ci/manifests.yaml",
        "deploy/manifests/kubernetes.yaml",
    ),
    (
        "deploy/helm/wiretape/ci/openshift.yaml",
        "deploy/manifests/openshift.yaml",
    ),
    (
        "deploy/helm/wiretape/ci/everything.yaml",
        "deploy/helm/wiretape/ci/everything.rendered.yaml",
    ),
    (
        "deploy/helm/wiretape/ci/least.yaml",
        "deploy/helm/wiretape/ci/least.rendered.yaml",
    ),
];

/// Alerts for any Prometheus, and where the chart, which can read nothing outside its folder, has them from.
const ALERTS: (&str, &str) = (
    "deploy/prometheus/alerts.yaml",
    "deploy/helm/wiretape/files/alerts.yaml",
);

/// What talks to Helm's library.
const HELM: &str = "xtask/src/manifests/helm.py";

/// Renders all; with `check`, changes nothing and fails where a file is not what the chart makes now.
pub fn run(check: bool) -> Result<()> {
    let python = setup::helm()?;
    let mut stale = Vec::new();
    let (alerts, alerts_in_chart) = ALERTS;
    let alerts =
        fs::read_to_string(programs::root().join(alerts)).with_context(|| format!("cannot read {alerts}"))?;
    // Before what is rendered with them.
    bring(alerts_in_chart, &alerts, check, &mut stale)?;
    for (values, file) in RENDERED {
        bring(file, &render(&python, values)?, check, &mut stale)?;
    }
    if !stale.is_empty() {
        bail!(
            "not what the chart makes: {}; run `cargo xtask manifests` and read the difference",
            stale.join(", ")
        );
    }
    Ok(())
}

/// Writes a file that is not as it should be; with `check`, only remembers it.
fn bring(file: &'static str, text: &str, check: bool, stale: &mut Vec<&'static str>) -> Result<()> {
    let path = programs::root().join(file);
    if fs::read_to_string(&path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    if check {
        stale.push(file);
        return Ok(());
    }
    let folder = path.parent().unwrap_or(programs::root());
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(&path, text).with_context(|| format!("cannot write {file}"))?;
    eprintln!("✓ {file}");
    Ok(())
}

fn render(python: &Path, values: &str) -> Result<String> {
    let output = Command::new(python)
        .args([HELM, "render", CHART, values])
        .current_dir(programs::root())
        .output()
        .with_context(|| format!("cannot start {}", python.display()))?;
    if !output.status.success() {
        bail!(
            "Helm does not render {values}:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let text = String::from_utf8(output.stdout).context("Helm gave no UTF-8")?;
    Ok(format!(
        "# Made from {CHART} with {values} by `cargo xtask manifests`; change the chart, not this.\n{text}"
    ))
}
