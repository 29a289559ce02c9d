//! Where packets could come from: each source is opened for a moment, as an agent would.

use super::{Finding, Verdict};
use wiretape_agent_ebpf::choice::Choice;

use crate::capture::{self, Waker};
use crate::config::{Backend, Config, Interfaces, NO_PINS};

/// Enough for a moment.
const BUFFER: u32 = 1 << 20;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    if config.backend == Backend::Replay {
        return vec![open(
            config,
            Backend::Replay,
            "replay",
            "give a capture file by --replay",
        )];
    }
    let mut ebpf = open(
        config,
        Backend::Ebpf,
        "ebpf",
        "without it pods are told by their addresses, and processes not at all: see kernel, capabilities and cgroups",
    );
    let mut pcap = open(
        config,
        Backend::Pcap,
        "libpcap",
        "see capabilities, or give another --interface",
    );
    let wanted: &mut [&mut Finding] = match config.backend {
        Backend::Ebpf => &mut [&mut ebpf],
        Backend::Pcap => &mut [&mut pcap],
        _ => &mut [&mut ebpf, &mut pcap],
    };
    // One that works is enough.
    if wanted.iter().all(|finding| finding.verdict != Verdict::Works) {
        for finding in wanted {
            finding.verdict = Verdict::Fails;
        }
    }
    vec![ebpf, pcap]
}

fn open(config: &Config, backend: Backend, name: &'static str, advice: &str) -> Finding {
    let config = Config {
        backend,
        buffer_size: BUFFER,
        // What an agent that runs has there, or one that ran has left, is not to be touched.
        pin: NO_PINS.into(),
        interfaces: Interfaces::None,
        ..config.clone()
    };
    let opened = match Waker::new() {
        Ok(waker) => capture::open(&config, None, &Choice::EVERYTHING, &waker).map_err(anyhow::Error::from),
        Err(error) => Err(error.into()),
    };
    match opened {
        Ok(opened) => {
            let found = match opened.backend {
                "ebpf" => "the kernel takes the programs".to_owned(),
                "pcap" => format!("{} can be recorded", config.interface),
                _ => "the file is a capture".to_owned(),
            };
            Finding::works(name, found)
        }
        Err(error) => Finding::lacks(name, format!("{error:#}"), advice),
    }
}
