//! A guest's memory: kept in a file while its processors stand still, and gone on with from there.

use super::{LISTENING, Libvirt, StartingGuard, absent_is_fine, explain, ffi, mark::LabMark};
use crate::{HostError, access::open_to_others, xml::Escaped};
use nonstop_model::{ImageManifest, MachineId};
use nonstop_plan::DesiredMachine;
use std::path::Path;
use virt::{
    domain::{DomainPausedReason, DomainStateReason},
    enumutil::Enum,
    sys,
};

/// Memory that a guest is to go on with.
pub struct Kept<'a> {
    /// The file.
    pub file: &'a Path,
    /// The folder of what the guest had written when it was kept.
    pub from: &'a Path,
    /// The folder that it goes on in.
    pub to: &'a Path,
}

impl Libvirt {
    /// Stops the processors of `machine`'s guest; nothing happens where none runs. One that is
    /// just being kept or restored is waited for. Repeatable.
    pub fn pause_machine(&self, machine: MachineId) -> Result<(), HostError> {
        let paused = self.work.with(|link| match self.domain(link, machine)? {
            None => Ok(()),
            Some(domain) => absent_is_fine(domain.suspend()),
        });
        paused.map_err(|e| explain(format!("pause {machine}"), e))
    }

    /// Lets the processors of `machine`'s guest run on. Repeatable.
    pub fn resume_machine(&self, machine: MachineId) -> Result<(), HostError> {
        let resumed = self.work.with(|link| match self.domain(link, machine)? {
            None => Ok(()),
            Some(domain) => absent_is_fine(domain.resume()),
        });
        resumed.map_err(|e| explain(format!("let {machine} run on"), e))
    }

    /// Writes the memory of `machine`'s guest to `file`, and ends the guest; nothing happens
    /// where none runs. What is in the file is synced, and known as whole by [`is_whole`].
    ///
    /// Errors: libvirt or QEMU refuses; the guest stands still then.
    pub fn save_machine(&self, machine: MachineId, file: &Path) -> Result<(), HostError> {
        let saved = self.work.with(|link| {
            let Some(domain) = self.domain(link, machine)? else { return Ok(()) };
            self.watch.ends(|ends| ends.destroying(machine));
            let saved = ffi::save(&domain, file);
            if saved.is_err() {
                self.watch.ends(|ends| ends.not_destroyed(machine));
            }
            absent_is_fine(saved)
        });
        saved.map_err(|e| explain(format!("keep the memory of {machine}"), e))?;
        self.watch.ends(|ends| ends.stopped(machine));
        self.remove_sockets(machine);
        Ok(())
    }

    /// Starts the guest of `machine` with the memory in `kept`, its processors standing still.
    /// Repeatable; one that an earlier try has started already is left alone.
    ///
    /// Errors: it runs on another generation; libvirt or QEMU refuses what is kept.
    pub fn restore_machine(
        &self,
        machine: &DesiredMachine,
        image: &ImageManifest,
        image_dir: &Path,
        kept: &Kept<'_>,
    ) -> Result<(), HostError> {
        let doing = || format!("start {} from its memory", machine.id);
        for file in image.files() {
            let path = image_dir.join(&file.file);
            open_to_others(&path).map_err(|closed| closed.while_doing(doing()))?;
        }
        let file = kept.file.display().to_string();
        let _starting = StartingGuard::new(&self.starting, machine.id);
        self.watch.wait_until_listening(LISTENING);
        let runs = self.work.with(|link| {
            if let Some(domain) = self.domain(link, machine.id)? {
                // Waits for a try that an earlier daemon began.
                domain.suspend()?;
                if let Some(mark) = self.read_mark(machine.id, &domain)? {
                    return Ok(Some(mark.generation));
                }
            }
            let xml = link.connect.save_image_xml_desc(&file, 0)?;
            let xml = moved(&xml, &self.lab, machine, kept);
            link.connect.restore_domain_flags(&file, Some(&xml), sys::VIR_DOMAIN_SAVE_PAUSED)?;
            Ok(None)
        });
        let help = || {
            format!(
                "start it without its memory: switch it off and on (`nonstop environment power {} \
                 kill`, then `on`)",
                machine.environment
            )
        };
        match runs.map_err(|e| with_help(explain(doing(), e), help()))? {
            Some(generation) if generation != machine.generation => Err(HostError::new(
                doing(),
                format!("its guest still runs on generation {generation}"),
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether a guest stands still for a reason that is ours to end: not because its disk is full,
/// nor because it is only just being started or ended.
pub(super) fn is_by_will(reason: &Enum<DomainStateReason, i32>) -> bool {
    use DomainPausedReason::{FromSnapshot, Migration, Save, User};
    matches!(
        reason,
        Enum::Known(DomainStateReason::Paused(Enum::Known(User | Migration | Save | FromSnapshot)))
    )
}

fn with_help(error: HostError, help: String) -> HostError {
    if error.help.is_empty() { error.help(help) } else { error }
}

/// The domain that libvirt wrote beside the memory, with the folder and the mark of the
/// generation that it goes on in. All else must stay as the guest knows it.
fn moved(xml: &str, lab: &LabMark, machine: &DesiredMachine, kept: &Kept<'_>) -> String {
    let shown = |dir: &Path| Escaped(&format!("{}/", dir.display())).to_string();
    let xml = xml.replace(&shown(kept.from), &shown(kept.to));
    let mark = lab.element(machine.id, machine.environment, machine.generation);
    let old = xml.find("<nonstop:machine ").and_then(|from| {
        let length = xml[from..].find("/>")? + 2;
        Some(from..from + length)
    });
    match old {
        Some(old) => [&xml[..old.start], &mark, &xml[old.end..]].concat(),
        // Without a mark of ours nobody would know it: libvirt is not asked to start it so.
        None => xml,
    }
}

/// Whether libvirt wrote to its end the file that begins with `head`: it says so last, once the
/// memory itself is on the disk (libvirt 11.3).
pub(crate) fn is_whole(head: &[u8]) -> bool {
    head.starts_with(b"LibvirtQemudSave")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_by_the_guest_moves_and_nothing_else_does() {
        let lab = LabMark::of("lab");
        let machine = crate::disks::tests::machine(4);
        let xml = format!(
            "<domain type='qemu'>\n  <name>nonstop-m7</name>\n  <metadata>\n    {}\n  </metadata>\n\
             <nvram format='qcow2'>/state/machines/m7/3/nvram</nvram>\n\
             <source file='/state/machines/m7/3/disk.qcow2'/>\n\
             <source file='/state/machines/m7/33/disk.qcow2'/>\n<target dev='nst00007'/>\n",
            lab.element(machine.id, machine.environment, 3)
        );
        let kept = Kept {
            file: Path::new("/state/machines/m7/3/ram-s1"),
            from: Path::new("/state/machines/m7/3"),
            to: Path::new("/state/machines/m7/4"),
        };
        let now = moved(&xml, &lab, &machine, &kept);
        let expected =
            xml.replace("/m7/3/", "/m7/4/").replace("generation=\"3\"", "generation=\"4\"");
        assert_eq!(now, expected);
    }
}
