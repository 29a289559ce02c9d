//! Packets from the kernel programs.

#[cfg(ebpf_programs)]
mod programs;

#[cfg(ebpf_programs)]
pub use programs::EbpfCapture;

#[cfg(not(ebpf_programs))]
pub use absent::EbpfCapture;

#[cfg(not(ebpf_programs))]
mod absent {
    use std::time::Duration;

    use wiretape_agent_ebpf::choice::{Choice, Rule};
    use wiretape_tape::{Nanos, Packet, Place};

    use super::super::{
        Capture, CaptureCounters, CaptureError, Handed, Inherited, Mark, Polled, Scope, Source, Waker,
    };

    /// Stands for the backend in an agent that was built without the kernel programs: cannot be made.
    pub enum EbpfCapture {}

    impl EbpfCapture {
        /// Says that there is no such backend.
        ///
        /// # Errors
        /// Always [`CaptureError::NotBuilt`].
        pub fn open(_: Scope, _: &Waker) -> Result<Self, CaptureError> {
            Err(CaptureError::NotBuilt)
        }
    }

    impl Source for EbpfCapture {
        fn poll(&mut self, _: Duration, _: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
            match *self {}
        }

        fn mark(&mut self) -> Result<Mark, CaptureError> {
            match *self {}
        }

        fn is_past(&mut self, _: &Mark) -> Result<bool, CaptureError> {
            match *self {}
        }

        fn counters(&mut self) -> Result<CaptureCounters, CaptureError> {
            match *self {}
        }

        fn new_interfaces(&mut self) -> Vec<(u32, String)> {
            match *self {}
        }

        fn stop(&mut self) {
            match *self {}
        }

        fn inherited(&self) -> Option<Inherited> {
            match *self {}
        }

        fn skip(&mut self, _: u64) {
            match *self {}
        }

        fn is_kept(&self) -> bool {
            match *self {}
        }

        fn keep(&mut self, _: Handed, _: Place, _: bool, _: Nanos) -> Result<(), CaptureError> {
            match *self {}
        }
    }

    impl Capture for EbpfCapture {
        fn choose(&mut self, _: &Choice) -> Result<(), CaptureError> {
            match *self {}
        }

        fn rule(&mut self, _: u64, _: Option<Rule>) -> Result<(), CaptureError> {
            match *self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use wiretape_agent_ebpf::{MAX_PACKET_BYTES, room_for};

    #[test]
    fn little_of_the_ring_is_left_empty() {
        for bytes in 1..=MAX_PACKET_BYTES as u32 {
            let room = room_for(bytes);
            assert!(
                room >= bytes && room.is_multiple_of(8),
                "{room} bytes for {bytes}"
            );
            assert!(
                room - bytes <= 40 || f64::from(room - bytes) <= 0.22 * f64::from(bytes),
                "{room} bytes for {bytes}"
            );
        }
        assert_eq!(room_for(u32::MAX), MAX_PACKET_BYTES as u32);
    }
}
