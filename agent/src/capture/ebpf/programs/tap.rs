//! The programs for interfaces.

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use wiretape_agent_ebpf::InterfaceKey;

use super::loading::{attach_error, set, take_map};
use super::shared::Interface;
use crate::capture::CaptureError;
use crate::capture::interfaces::Tap;

/// The programs, loaded, and what they are told.
pub(super) struct InterfaceTap {
    owners: HashMap<MapData, Interface, u64>,
    covered: HashMap<MapData, u64, u8>,
    pub(super) ebpf: Ebpf,
}

const TAPS: [(&str, TcAttachType); 2] = [
    ("frame_in", TcAttachType::Ingress),
    ("frame_out", TcAttachType::Egress),
];

impl InterfaceTap {
    pub(super) fn new(mut ebpf: Ebpf) -> Result<Self, CaptureError> {
        for (name, _) in TAPS {
            classifier(&mut ebpf, name)?.load().map_err(attach_error(name))?;
        }
        let owners = HashMap::try_from(take_map(&mut ebpf, "OWNERS")?)?;
        let covered = HashMap::try_from(take_map(&mut ebpf, "COVERED")?)?;
        Ok(Self {
            owners,
            covered,
            ebpf,
        })
    }
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, CaptureError> {
    let program = ebpf.program_mut(name).ok_or(CaptureError::Missing(name))?;
    program.try_into().map_err(attach_error(name))
}

impl Tap for InterfaceTap {
    type Hold = [SchedClassifierLink; 2];

    fn attach(&mut self, interface: &str) -> Result<Self::Hold, CaptureError> {
        let [received, sent] = TAPS.map(|(name, hook)| {
            let program = classifier(&mut self.ebpf, name)?;
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            let link = program
                .attach_with_options(interface, hook, options)
                .and_then(|link| program.take_link(link));
            link.map_err(attach_error(name))
        });
        Ok([received?, sent?])
    }

    fn own(&mut self, interface: InterfaceKey, cgroup: Option<u64>) -> Result<(), CaptureError> {
        set(&mut self.owners, &Interface(interface), cgroup.as_ref())
    }

    fn cover(&mut self, namespace: u64, covered: bool) -> Result<(), CaptureError> {
        set(&mut self.covered, &namespace, covered.then_some(&1))
    }
}
