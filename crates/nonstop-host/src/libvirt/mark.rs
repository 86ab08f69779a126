//! Marks: how a guest or network on the host is known as this lab's.
//!
//! UUIDs derive from the lab's id and the thing's name, so a listing alone tells whose a thing
//! is; what a machine runs on stands in its metadata, written by the call that creates it.

use nonstop_model::{EnvironmentId, MachineId, SegmentName};
use nonstop_plan::ObservedMachine;
use uuid::Uuid;

/// Namespace of our elements in libvirt's `<metadata>`.
pub(super) const NAMESPACE: &str = "urn:nonstop:1";

/// Identifies a lab on its host, in everything made for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabMark(Uuid);

impl LabMark {
    /// The mark of the lab called `name`: the same after every restart.
    pub fn of(name: &str) -> LabMark {
        LabMark(Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{NAMESPACE}:{name}").as_bytes()))
    }

    /// The UUID of a machine's guest; what the guest sees as its own, too.
    pub fn machine(&self, machine: MachineId) -> Uuid {
        Uuid::new_v5(&self.0, machine.to_string().as_bytes())
    }

    /// The UUID of a segment's network.
    pub fn segment(&self, segment: &SegmentName) -> Uuid {
        Uuid::new_v5(&self.0, segment.as_str().as_bytes())
    }

    /// The hardware address of a link segment's bridge: locally administered, and this lab's
    /// alone. The bridge has it from the call on that makes it.
    pub(crate) fn link_address(&self, segment: &SegmentName) -> String {
        let bytes = self.segment(segment).into_bytes();
        let tail: Vec<String> = bytes[..5].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("5a:{}", tail.join(":"))
    }

    /// The machine whose guest has this name and UUID, if it is this lab's.
    pub(crate) fn machine_of(&self, name: &str, uuid: Uuid) -> Option<MachineId> {
        let machine = name.strip_prefix(PREFIX)?.parse().ok()?;
        (self.machine(machine) == uuid).then_some(machine)
    }

    /// The segment whose network has this name and UUID, if it is this lab's.
    pub(crate) fn segment_of(&self, name: &str, uuid: Uuid) -> Option<SegmentName> {
        let segment = name.parse().ok()?;
        (self.segment(&segment) == uuid).then_some(segment)
    }

    /// The element that marks a machine's guest.
    pub(crate) fn element(
        &self,
        machine: MachineId,
        environment: EnvironmentId,
        generation: u32,
    ) -> String {
        format!(
            "<nonstop:machine xmlns:nonstop=\"{NAMESPACE}\" lab=\"{}\" id=\"{machine}\" environment=\"{environment}\" generation=\"{generation}\"/>",
            self.0
        )
    }

    /// The element that marks a segment's network.
    pub(crate) fn segment_element(&self, segment: &SegmentName) -> String {
        format!(
            "<nonstop:segment xmlns:nonstop=\"{NAMESPACE}\" lab=\"{}\" environment=\"{}\"/>",
            self.0,
            segment.environment()
        )
    }

    /// What a machine's element says; None if it is not one of this lab's.
    pub(crate) fn read(&self, machine: MachineId, element: &str) -> Option<ObservedMachine> {
        let ours = attribute(element, "lab")? == self.0.to_string()
            && attribute(element, "id")? == machine.to_string();
        let observed = ObservedMachine {
            environment: attribute(element, "environment")?.parse().ok()?,
            generation: attribute(element, "generation")?.parse().ok()?,
        };
        ours.then_some(observed)
    }
}

const PREFIX: &str = "nonstop-";

/// libvirt's name of a machine's guest.
pub fn domain_name(machine: MachineId) -> String {
    format!("{PREFIX}{machine}")
}

/// The value of an attribute in an element written by us and given back by libvirt. Ours hold
/// no character that XML would escape.
fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = element.split_once(&format!(" {name}="))?;
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest[1..].split_once(quote).map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_only_by_its_lab() {
        let (lab, other) = (LabMark::of("lab"), LabMark::of("other"));
        let m7 = MachineId(7);
        let element = lab.element(m7, EnvironmentId(3), 2);
        let seen = ObservedMachine { environment: EnvironmentId(3), generation: 2 };
        assert_eq!(lab.read(m7, &element), Some(seen));
        // libvirt gives elements back in its own quotes and without the prefix.
        let returned = element.replace('"', "'").replace("nonstop:machine", "machine");
        assert_eq!(lab.read(m7, &returned), Some(seen));
        assert_eq!(lab.read(MachineId(8), &element), None);
        assert_eq!(other.read(m7, &element), None);
    }

    #[test]
    fn name_and_uuid_together_tell_whose_a_guest_is() {
        let (lab, other) = (LabMark::of("lab"), LabMark::of("other"));
        let m7 = MachineId(7);
        assert_eq!(lab.machine_of(&domain_name(m7), lab.machine(m7)), Some(m7));
        assert_eq!(lab.machine_of(&domain_name(m7), other.machine(m7)), None);
        assert_eq!(lab.machine_of("m7", lab.machine(m7)), None);
        let segment = SegmentName::of(EnvironmentId(3));
        assert_eq!(lab.segment_of("nsb00003", lab.segment(&segment)), Some(segment.clone()));
        assert_eq!(lab.segment_of("nsb00004", lab.segment(&segment)), None);
    }
}
