//! A machine as libvirt's domain XML. Pure: what it says is reviewed as a snapshot.

use crate::{
    libvirt::{LabMark, domain_name},
    xml::Escaped,
};
use nonstop_model::{
    ImageManifest, Limits, Mac, MachineId, SegmentKind, SegmentName,
    network::{link_tap, tap},
};
use nonstop_plan::DesiredMachine;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

/// What runs a guest's instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU, in software.
    Tcg {
        /// Why not the processor, for a person.
        why: String,
    },
}

/// Everything that a guest is made of.
#[derive(Debug, Clone, Copy)]
pub struct Guest<'a> {
    /// Whose it is.
    pub lab: &'a LabMark,
    /// The machine as it should be.
    pub machine: &'a DesiredMachine,
    /// The image it starts from.
    pub image: &'a ImageManifest,
    /// Where that image lies.
    pub image_dir: &'a Path,
    /// Its own overlay on the image's disk.
    pub disk: &'a Path,
    /// The image of the disc in its drive, if it has one.
    pub disc: Option<&'a Path>,
    /// The firmware that starts what is on that disk; without, the image's kernel is started.
    pub uefi: Option<Uefi<'a>>,
    /// Where its channels' sockets are made.
    pub agent_dir: &'a Path,
    /// What runs it.
    pub accelerator: &'a Accelerator,
}

/// UEFI firmware, and what belongs to it.
#[derive(Debug, Clone, Copy)]
pub struct Uefi<'a> {
    /// Its code.
    pub code: &'a Path,
    /// The machine's own variables.
    pub nvram: &'a Path,
    /// The socket of the machine's own TPM.
    pub tpm: &'a Path,
}

/// The socket on which the agent of `machine` is spoken to.
///
/// libvirt makes it, owned by root and in a folder of root's, and hands it to QEMU open: no
/// guest's QEMU can reach a socket, its own included.
pub fn agent_socket(agent_dir: &Path, machine: MachineId) -> PathBuf {
    agent_dir.join(format!("{machine}.sock"))
}

/// The socket of the root shell in `machine`, for images with a test channel.
pub fn test_socket(agent_dir: &Path, machine: MachineId) -> PathBuf {
    agent_dir.join(format!("{machine}.test.sock"))
}

/// The socket from which `machine`, a canary, takes the frames that leave by its card number `card`.
pub fn card_socket(agent_dir: &Path, machine: MachineId, card: usize) -> PathBuf {
    agent_dir.join(format!("{machine}.card{card}.sock"))
}

/// The domain XML of `guest`.
pub fn domain_xml(guest: &Guest<'_>) -> String {
    let Guest { lab, machine: m, image, disk, disc, uefi, agent_dir, accelerator, .. } = *guest;
    let (kind, cpu, tcg) = match accelerator {
        Accelerator::Kvm => ("kvm", "<cpu mode='host-passthrough'/>", String::new()),
        Accelerator::Tcg { .. } => {
            let mib = translated_mib(m.memory_mib);
            let cache = format!("\n    <tcg><tb-cache unit='MiB'>{mib}</tb-cache></tcg>");
            ("qemu", "<cpu mode='maximum'/>", cache)
        }
    };
    let mut channels = String::new();
    if m.agent {
        channels += &channel(&agent_socket(agent_dir, m.id), AGENT_PORT);
    }
    if image.test_channel {
        channels += &channel(&test_socket(agent_dir, m.id), TEST_PORT);
    }
    if image.card_ports {
        for card in 0..m.networks.len() {
            let port = format!("{CARD_PORT}{card}");
            channels += &channel(&card_socket(agent_dir, m.id, card), &port);
        }
    }
    let display = m.desktop.is_some_and(|desktop| desktop.console);
    // Nothing that a guest says on its console is kept: it could fill the host's disk. The
    // console of a test image can be looked at while it runs (`virsh console`).
    let serial = if image.test_channel { "pty" } else { "null" };
    format!(
        "\
<domain type='{kind}'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <metadata>
    {mark}
  </metadata>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>{vcpus}</vcpu>
  <cputune><shares>{weight}</shares></cputune>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
{boot}  </os>
  <features>
    <acpi/>
    <apic/>{tcg}
  </features>
  {cpu}
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>
  <seclabel type='static' model='dac' relabel='no'><label>+{uid}:+{uid}</label></seclabel>
  <devices>
    <controller type='usb' model='none'/>
    <controller type='virtio-serial' index='0'>{serial_slot}</controller>
{disks}{drive}{cards}    <serial type='{serial}'/>
{channels}{input}{graphics}    <video><model type='virtio'/>{video_slot}</video>
    <rng model='virtio'><backend model='builtin'/>{rng_slot}</rng>
{tpm}    <memballoon model='none'/>
  </devices>
</domain>
",
        name = domain_name(m.id),
        uuid = lab.machine(m.id),
        mark = lab.element(m.id, m.environment, m.generation),
        memory = m.memory_mib,
        vcpus = m.vcpus,
        weight = m.limits.cpu_weight,
        boot = uefi.map_or_else(|| direct_boot(guest), |uefi| firmware_boot(&uefi)),
        tpm = uefi.map_or_else(String::new, |uefi| tpm(&uefi)),
        input = if display { input() } else { String::new() },
        graphics = if display { GRAPHICS } else { "" },
        uid = m.uid,
        disks = match image.disk {
            Some(_) => overlay(disk, &m.limits, uefi.is_some()),
            None => String::new(),
        },
        drive = if m.drive { drive(disc) } else { String::new() },
        cards = cards(m),
        video_slot = slot(1),
        serial_slot = slot(5),
        rng_slot = slot(6),
    )
}

/// The network cards, in the machine's order.
fn cards(machine: &DesiredMachine) -> String {
    let card = |kind: &SegmentKind| {
        let (mac, tap, slot) = match kind {
            SegmentKind::Access => (Mac::of(machine.id), tap(machine.id), slot(4)),
            SegmentKind::Link => (Mac::of_link(machine.id), link_tap(machine.id), slot(9)),
        };
        format!(
            "    <interface type='bridge'>
      <mac address='{mac}'/>
      <source bridge='{segment}'/>
      <target dev='{tap}'/>
      <model type='virtio'/>
      {slot}
    </interface>
",
            segment = SegmentName::of_kind(*kind, machine.environment),
        )
    };
    machine.networks.iter().map(card).collect()
}

/// The image's kernel, without firmware that could start anything else.
fn direct_boot(guest: &Guest<'_>) -> String {
    let Guest { machine, image, image_dir, .. } = *guest;
    format!(
        "    <kernel>{}</kernel>
    <initrd>{}</initrd>
    <cmdline>{}</cmdline>
",
        shown(&image_dir.join(&image.kernel.file)),
        shown(&image_dir.join(&image.initrd.file)),
        Escaped(&cmdline(&image.cmdline, machine)),
    )
}

/// The loader is named: `firmware='efi'` takes the build with secure boot (libvirt 11.3).
fn firmware_boot(uefi: &Uefi<'_>) -> String {
    format!(
        "    <loader readonly='yes' type='pflash'>{}</loader>
    <nvram format='qcow2'>{}</nvram>
",
        shown(uefi.code),
        shown(uefi.nvram),
    )
}

fn tpm(uefi: &Uefi<'_>) -> String {
    format!(
        "    <tpm model='tpm-crb'>
      <backend type='external'>
        <source type='unix' mode='connect' path='{}'/>
      </backend>
    </tpm>
",
        shown(uefi.tpm)
    )
}

/// How much translated code QEMU may keep for a guest of this size, in MiB.
///
/// Without a bound a guest grows to about 1 GiB of the host's memory. With too narrow a one all
/// of it is thrown away again and again: a desktop with 16 MiB did so 60 times while it booted
/// and needed 12 s until RDP answered; with 64 MiB or more 4 s. A guest of busybox fits into 16.
fn translated_mib(memory_mib: u32) -> u32 {
    (memory_mib / 8).clamp(16, 128)
}

/// The display is told of over a connection that is handed over open, and made no other way.
const GRAPHICS: &str = "    <graphics type='dbus' p2p='yes'/>
    <audio id='1' type='none'/>
";

/// A tablet says where the pointer is, so that it does not drift from the client's.
fn input() -> String {
    format!(
        "    <input type='tablet' bus='virtio'>{}</input>
    <input type='keyboard' bus='virtio'>{}</input>
",
        slot(7),
        slot(8)
    )
}

/// A place on the root bus itself. Left alone, libvirt puts each device behind a port of its own
/// for hot plugging, which nobody does here and whose drivers cost a guest without KVM 0.2 s.
fn slot(number: u8) -> String {
    format!("<address type='pci' bus='0' slot='{number}'/>")
}

/// Ports whose names are not those of QEMU's own agent, or libvirt would attach to them.
const AGENT_PORT: &str = "org.nonstop.agent.0";
const TEST_PORT: &str = "org.nonstop.test.0";
/// And the card's number.
const CARD_PORT: &str = "org.nonstop.card.";

fn channel(socket: &Path, port: &str) -> String {
    format!(
        "    <channel type='unix'>
      <source mode='bind' path='{}'/>
      <target type='virtio' name='{port}'/>
    </channel>
",
        shown(socket)
    )
}

/// The host's page cache keeps one copy of the base that all guests share, which a cache of
/// `none` would read from the disk for each; a guest's flushes reach the disk either way. A
/// guest that fills the host's disk is paused rather than told of an error it cannot mend.
fn overlay(disk: &Path, limits: &Limits, starts: bool) -> String {
    format!(
        "    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='writeback' discard='unmap' error_policy='enospace'/>
      <source file='{}'/>
      <target dev='vda' bus='virtio'/>
      <iotune><total_bytes_sec>{}</total_bytes_sec><total_iops_sec>{}</total_iops_sec></iotune>
{}      {}
    </disk>
",
        shown(disk),
        u64::from(limits.disk_mib_a_second) << 20,
        limits.iops,
        if starts { "      <boot order='1'/>\n" } else { "" },
        slot(3)
    )
}

/// The drive in which discs with samples are shown, with one in it or without: read-only, and on a
/// controller that guests of all ages know. The machine has that controller anyhow.
pub(crate) fn drive(disc: Option<&Path>) -> String {
    let source =
        disc.map_or(String::new(), |file| format!("      <source file='{}'/>\n", shown(file)));
    format!(
        "    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
{source}      <target dev='sda' bus='sata'/>
      <readonly/>
    </disk>
"
    )
}

/// The image's command line with what a guest without KVM needs under load: its timer check can
/// fail then, and a panicked kernel would spin for ever.
fn cmdline(of_image: &str, machine: &DesiredMachine) -> String {
    let mut line = of_image.to_owned();
    let mut words = of_image.split_ascii_whitespace();
    if !words.clone().any(|w| w == "no_timer_check") {
        line += " no_timer_check";
    }
    if !words.any(|w| w.starts_with("panic=")) {
        let _ = write!(line, " panic=-1");
    }
    // Tells an image that has both which desktop is wanted.
    if machine.desktop.is_some_and(|desktop| !desktop.console) {
        let _ = write!(line, " nonstop.rdp=guest");
    }
    line
}

fn shown(path: &Path) -> String {
    Escaped(&path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonstop_model::{EnvironmentId, Power, image::ImageFile};
    use nonstop_plan::Desktop;

    fn image(cmdline: &str, test_channel: bool) -> ImageManifest {
        let file =
            |file: &str| ImageFile { file: file.into(), sha256: String::new(), size_bytes: 1 };
        ImageManifest {
            version: 1,
            name: "desktop".parse().expect("a name"),
            disk: Some(file("disk.qcow2")),
            disk_bytes: 1 << 30,
            kernel: file("kernel"),
            initrd: file("initrd"),
            cmdline: cmdline.into(),
            uefi: true,
            agent: true,
            test_channel,
            card_ports: false,
            user: Some("researcher".into()),
            rdp_port: Some(3389),
            packages: Vec::new(),
        }
    }

    fn render(image: &ImageManifest, accelerator: &Accelerator, console: bool) -> String {
        render_with(image, accelerator, console, vec![SegmentKind::Access], None)
    }

    fn render_with(
        image: &ImageManifest,
        accelerator: &Accelerator,
        console: bool,
        networks: Vec<SegmentKind>,
        uefi: Option<Uefi<'_>>,
    ) -> String {
        render_machine(image, accelerator, &machine(image, console, networks), uefi, None)
    }

    fn machine(image: &ImageManifest, console: bool, networks: Vec<SegmentKind>) -> DesiredMachine {
        let environment = EnvironmentId(3);
        DesiredMachine {
            id: MachineId(7),
            environment,
            role: nonstop_model::MachineRole::Analyst,
            image: image.name.clone(),
            image_digest: "d".into(),
            profile: Default::default(),
            uid: 80_007,
            address: "10.77.0.50".parse().ok(),
            networks,
            reach: Vec::new(),
            limits: Default::default(),
            memory_mib: 1024,
            vcpus: 2,
            generation: 4,
            power: Power::On,
            force_off_at: jiff::Timestamp::UNIX_EPOCH,
            reset_pending: false,
            preparation: None,
            desktop: Some(Desktop {
                console,
                address: "127.128.0.7".parse().expect("an address"),
                port: 3389,
            }),
            viewers: Vec::new(),
            origin: None,
            resume: None,
            frozen: Vec::new(),
            agent: true,
            drive: false,
            disc: None,
            seen_in: None,
        }
    }

    fn render_machine(
        image: &ImageManifest,
        accelerator: &Accelerator,
        machine: &DesiredMachine,
        uefi: Option<Uefi<'_>>,
        disc: Option<&Path>,
    ) -> String {
        domain_xml(&Guest {
            lab: &LabMark::of("lab"),
            machine,
            image,
            image_dir: Path::new("/var/lib/nonstop/images/desktop/d"),
            disk: Path::new("/var/lib/nonstop/machines/m7/4/disk.qcow2"),
            disc,
            uefi,
            agent_dir: Path::new("/run/nonstop/agent"),
            accelerator,
        })
    }

    #[test]
    fn a_desktop_in_software() {
        let tcg = Accelerator::Tcg { why: "no /dev/kvm".into() };
        insta::assert_snapshot!(render(&image("quiet root=/dev/vda", false), &tcg, true));
    }

    #[test]
    fn a_test_machine_on_the_processor() {
        let image = image("quiet panic=5 no_timer_check", true);
        insta::assert_snapshot!(render(&image, &Accelerator::Kvm, false));
    }

    #[test]
    fn the_cards_of_a_pair_lie_on_their_own_segments() {
        let image = image("quiet", false);
        let cards = |networks| {
            let xml = render_with(&image, &Accelerator::Kvm, true, networks, None);
            let from = xml.find("    <interface").expect("a card");
            let to = xml.rfind("</interface>").expect("its end");
            xml[from..to].to_string()
        };
        let debugger = cards(vec![SegmentKind::Access, SegmentKind::Link]);
        insta::assert_snapshot!(debugger);
        let debuggee = cards(vec![SegmentKind::Link]);
        assert_eq!(debuggee.matches("<interface").count(), 1);
        assert!(debuggee.contains("<source bridge='nsl00003'/>") && !debuggee.contains("nsb"));
    }

    #[test]
    fn a_canary_has_a_port_for_each_of_its_cards() {
        let image = ImageManifest { card_ports: true, ..image("quiet", false) };
        let pair = vec![SegmentKind::Access, SegmentKind::Link];
        let xml = render_with(&image, &Accelerator::Kvm, true, pair, None);
        for card in 0..2 {
            let source =
                format!("<source mode='bind' path='/run/nonstop/agent/m7.card{card}.sock'/>");
            assert!(
                xml.contains(&source) && xml.contains(&format!("'org.nonstop.card.{card}'")),
                "{xml}"
            );
        }
    }

    #[test]
    fn a_debuggee_has_a_drive_and_no_port_for_an_agent() {
        let image = image("quiet", false);
        let debuggee = DesiredMachine {
            agent: false,
            drive: true,
            ..machine(&image, true, vec![SegmentKind::Link])
        };
        let render = |disc| render_machine(&image, &Accelerator::Kvm, &debuggee, None, disc);
        let devices = |xml: &str| {
            let from = xml.find("    <disk type='file' device='cdrom'").expect("a drive");
            let to = xml.find("    <interface").expect("a card");
            xml[from..to].to_string()
        };
        let empty = render(None);
        assert!(!empty.contains("org.nonstop.agent"), "{empty}");
        insta::assert_snapshot!(devices(&empty), @r"
        <disk type='file' device='cdrom'>
          <driver name='qemu' type='raw'/>
          <target dev='sda' bus='sata'/>
          <readonly/>
        </disk>
        ");
        let disc = Path::new("/var/lib/nonstop/machines/m7/4/disc-j3.iso");
        insta::assert_snapshot!(devices(&render(Some(disc))), @r"
        <disk type='file' device='cdrom'>
          <driver name='qemu' type='raw'/>
          <source file='/var/lib/nonstop/machines/m7/4/disc-j3.iso'/>
          <target dev='sda' bus='sata'/>
          <readonly/>
        </disk>
        ");
    }

    #[test]
    fn a_machine_with_firmware_variables_and_a_tpm() {
        let uefi = Uefi {
            code: Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd"),
            nvram: Path::new("/var/lib/nonstop/machines/m7/4/nvram"),
            tpm: Path::new("/run/nonstop/tpm/m7/control"),
        };
        let image = image("quiet", false);
        let link = vec![SegmentKind::Link];
        insta::assert_snapshot!(render_with(&image, &Accelerator::Kvm, true, link, Some(uefi)));
    }

    #[test]
    fn an_image_cannot_write_into_the_domain() {
        let xml = render(&image("a</cmdline><x>&\"", false), &Accelerator::Kvm, true);
        assert!(xml.contains("<cmdline>a&lt;/cmdline&gt;&lt;x&gt;&amp;&quot; no_timer_check"));
    }
}
