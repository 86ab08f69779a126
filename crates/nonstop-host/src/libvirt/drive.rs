//! The drive in which discs with samples are shown: what lies in it, and another put into it while the
//! guest runs. The guest has no say in that: its tray is opened by force.

use super::{Libvirt, absent_is_fine, explain};
use crate::{HostError, domain::drive};
use nonstop_model::{InjectionId, MachineId, injection::disc_of};
use std::path::Path;
use virt::sys;

/// What stands for a disc that is none of ours: no injection has this number.
const FOREIGN: InjectionId = InjectionId(0);

impl Libvirt {
    /// Puts the image `disc` into the drive of `machine`'s guest, or takes out what is in it. Nothing
    /// happens where none runs. Repeatable.
    pub fn change_disc(&self, machine: MachineId, disc: Option<&Path>) -> Result<(), HostError> {
        let flags = sys::VIR_DOMAIN_AFFECT_LIVE | sys::VIR_DOMAIN_DEVICE_MODIFY_FORCE;
        let xml = drive(disc);
        let changed = self.work.with(|link| match self.domain(link, machine)? {
            None => Ok(()),
            Some(domain) => absent_is_fine(domain.update_device_flags(&xml, flags)),
        });
        changed.map_err(|e| explain(format!("change the disc in the drive of {machine}"), e))
    }
}

/// What lies in the drive of a guest, by libvirt's description of it; None if it has no drive.
pub(super) fn in_drive(xml: &str) -> Option<Option<InjectionId>> {
    let from = xml.find(" device='cdrom'")?;
    let length = xml[from..].find("</disk>")?;
    let element = &xml[from..from + length];
    let file = element.split_once("<source file='").and_then(|(_, rest)| rest.split_once('\''));
    let Some((file, _)) = file else { return Some(None) };
    let name = file.rsplit('/').next().unwrap_or_default();
    Some(Some(disc_of(name).unwrap_or(FOREIGN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As libvirt 11.3 writes it.
    fn described(source: &str) -> String {
        format!(
            "<devices>\n<disk type='file' device='disk'>\n<source file='/a/disk.qcow2'/></disk>\n\
             <disk type='file' device='cdrom'>\n      <driver name='qemu' type='raw'/>\n{source}\
             <target dev='sda' bus='sata'/>\n      <readonly/>\n    </disk></devices>"
        )
    }

    #[test]
    fn what_lies_in_a_drive_is_read_from_its_description() {
        assert_eq!(in_drive("<domain><devices/></domain>"), None);
        assert_eq!(in_drive(&described("")), Some(None));
        let ours = "<source file='/s/machines/m7/1/disc-j9.iso' index='2'/>\n<backingStore/>";
        assert_eq!(in_drive(&described(ours)), Some(Some(InjectionId(9))));
        let theirs = described("<source file='/tmp/other.iso'/>");
        assert_eq!(in_drive(&theirs), Some(Some(FOREIGN)), "one of somebody else's");
    }

    #[test]
    fn what_is_put_in_is_what_is_read_back() {
        let path = Path::new("/s/machines/m7/1/disc-j9.iso");
        assert_eq!(in_drive(&drive(Some(path))), Some(Some(InjectionId(9))));
        assert_eq!(in_drive(&drive(None)), Some(None));
    }
}
