//! `nonstopd --render FILE`: what libvirt would be told for a template, without daemon or host.
//!
//! The numbers are those of a first environment: e1, at the first place of the pool, with
//! machines from m1 on.

use nonstop_host::{
    HostError,
    disks::{Disks, NotUefi, starts},
    domain::{Accelerator, Guest, Uefi, domain_xml},
    firmware::Firmware,
    images::Images,
    libvirt::{LabMark, network_xml},
    tpm::Tpms,
};
use nonstop_model::{
    EnvironmentId, EnvironmentTemplate, Lab, MachineId, Power, RdpPolicy, Segment, SegmentKind,
    SegmentName, Slot,
    lab::MACHINE_UIDS,
    network::{RDP_PORT, display_address},
    template::{Known, MachineTemplate},
    yaml::ConfigError,
};
use nonstop_plan::{DesiredMachine, Desktop, SegmentHost, names};
use std::path::Path;

const E1: EnvironmentId = EnvironmentId(1);

/// What cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The file cannot be read.
    #[error("read the template")]
    Read(#[from] std::io::Error),
    /// The template is not good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An image does not start by the machine's firmware.
    #[error(transparent)]
    NotUefi(#[from] NotUefi),
    /// An image is not built or not whole.
    #[error("{}", crate::status::chain(.0))]
    Image(#[from] HostError),
}

/// The XML of each segment and machine of the template in `file`, each after a line that says
/// whose it is.
///
/// Errors: the template is not good for `lab`; an image of it is not built.
pub fn render(lab: &Lab, file: &Path) -> Result<String, RenderError> {
    let text = std::fs::read_to_string(file)?;
    let known = Known::of(lab);
    let template = EnvironmentTemplate::parse(&file.display().to_string(), &text, Some(&known))?;
    let segment = Segment::new(E1, lab.network.pool, Slot(0)).expect("lab.yaml was checked");
    let mark = LabMark::of(&lab.name);
    let machines: Vec<DesiredMachine> = (1..)
        .zip(&template.machines)
        .map(|(number, machine)| machine_of(lab, number, machine, &template, &segment))
        .collect();
    let mut all = String::new();
    let host = |m: &DesiredMachine| Some(SegmentHost { machine: m.id, address: m.address? });
    let hosts: Vec<SegmentHost> = machines.iter().filter_map(host).collect();
    if !hosts.is_empty() {
        let xml = network_xml(&mark, &segment, &hosts, &names(&machines));
        all += &format!("<!-- segment {} -->\n{xml}", segment.name);
    }
    if template.has_link() {
        let link = SegmentName::of_kind(SegmentKind::Link, E1);
        all += &format!("<!-- link {link}: a bridge of ours, of which libvirt knows nothing -->\n");
    }
    let (images, firmware) = (Images::new(lab.images()), Firmware::of_debian());
    for (machine, role) in machines.iter().zip(template.machines.iter().map(|m| m.role)) {
        let (digest, _) = images.current(&machine.image)?;
        let (folder, manifest) = images.verified(&machine.image, &digest)?;
        starts(machine.profile, &manifest)?;
        let disks = Disks::new(lab.machines(), lab.quarantine(), 0);
        let disk = disks.overlay(machine.id, machine.generation);
        let nvram = disks.nvram(machine.id, machine.generation);
        let tpm = Tpms::new(lab.run.join("tpm")).socket(machine.id);
        let uefi = Uefi { code: &firmware.code, nvram: &nvram, tpm: &tpm };
        let xml = domain_xml(&Guest {
            lab: &mark,
            machine,
            image: &manifest,
            image_dir: &folder,
            disk: &disk,
            disc: None,
            uefi: machine.profile.boots_from_disk().then_some(uefi),
            agent_dir: &lab.run.join("agent"),
            accelerator: &Accelerator::Kvm,
        });
        all += &format!("<!-- {} {role} -->\n{xml}", machine.id);
    }
    Ok(all)
}

fn machine_of(
    lab: &Lab,
    number: u8,
    machine: &MachineTemplate,
    template: &EnvironmentTemplate,
    segment: &Segment,
) -> DesiredMachine {
    let id = MachineId(number.into());
    let address = machine.is_on(SegmentKind::Access).then(|| segment.machine(number - 1));
    let console = Desktop { console: true, address: display_address(id), port: RDP_PORT };
    DesiredMachine {
        id,
        environment: E1,
        role: machine.role,
        image: machine.image.clone(),
        image_digest: String::new(),
        profile: machine.profile,
        uid: MACHINE_UIDS + id.0,
        address,
        networks: machine.networks.clone(),
        reach: crate::desired::reach(lab, template.domain.as_deref(), machine, segment),
        limits: machine.limits.clone(),
        memory_mib: machine.memory_mib,
        vcpus: machine.vcpus,
        generation: 1,
        power: Power::On,
        force_off_at: jiff::Timestamp::UNIX_EPOCH,
        reset_pending: false,
        preparation: None,
        desktop: match template.desktop_of(machine) {
            RdpPolicy::None => None,
            RdpPolicy::Console => Some(console),
            RdpPolicy::Guest => {
                address.map(|address| Desktop { console: false, address, port: RDP_PORT })
            }
        },
        viewers: Vec::new(),
        origin: None,
        resume: None,
        frozen: Vec::new(),
        agent: crate::desired::speaks(machine),
        drive: crate::desired::has_drive(template, machine.role),
        disc: None,
        seen_in: None,
    }
}
