//! How a researcher gets to a machine's desktop: the tunnel's command, the `.rdp` file, and
//! FreeRDP's command.

use nonstop_api::{ConnectView, DesktopView, EnvironmentView, MachineView, ViewGrantView};
use nonstop_model::{AccountName, MachineId};

/// What is shown of a desktop.
pub(crate) struct Desktop {
    /// The command that opens the tunnel.
    pub(crate) ssh: String,
    /// The command that opens the desktop on Linux.
    pub(crate) freerdp: String,
    /// Name of the `.rdp` file.
    pub(crate) file: String,
    /// The guest's user.
    pub(crate) user: String,
    /// The machine's password, for its owner alone.
    pub(crate) password: Option<String>,
}

impl Desktop {
    /// The desktop of `machine` in `environment`; None where it offers none.
    pub(crate) fn of(
        gateway: &ConnectView,
        environment: &EnvironmentView,
        machine: &MachineView,
    ) -> Option<Desktop> {
        let desktop = machine.desktop.as_ref()?;
        let near = near_port(machine.id);
        let user = user(desktop);
        // A display of the hypervisor asks for nobody; without both FreeRDP would.
        let for_user = match user.is_empty() {
            true => format!(" /u:{} /p:", environment.account),
            false => format!(" /u:{user}"),
        };
        Some(Desktop {
            ssh: ssh(
                gateway,
                &environment.account,
                &[(near, &(desktop.address.to_string(), desktop.port))],
            ),
            freerdp: format!(
                "xfreerdp3 /v:localhost:{near}{for_user} {} /size:1280x800 \
                 /dynamic-resolution /gfx +auto-reconnect /audio-mode:2 -clipboard",
                certificate(desktop)
            ),
            file: format!("nonstop-{}-{}.rdp", environment.id, machine.role),
            user,
            password: desktop.password.clone(),
        })
    }
}

impl Desktop {
    /// The display that `view` permits to see.
    pub(crate) fn of_view(gateway: &ConnectView, view: &ViewGrantView) -> Desktop {
        let near = near_port_of_view(view);
        let far = (view.desktop.address.to_string(), view.desktop.port);
        Desktop {
            ssh: ssh(gateway, &view.account, &[(near, &far)]),
            freerdp: format!(
                "xfreerdp3 /v:localhost:{near} /u:{} /p: {} /gfx +auto-reconnect /audio-mode:2 \
                 -clipboard",
                view.account,
                certificate(&view.desktop)
            ),
            file: format!("nonstop-{}-{}-view.rdp", view.environment, view.role),
            user: String::new(),
            password: None,
        }
    }
}

/// The `.rdp` file of the display that `view` permits to see.
pub(crate) fn view_rdp_file(view: &ViewGrantView) -> String {
    rdp_lines(&view.desktop, near_port_of_view(view))
}

/// Apart from those of one's own machines.
fn near_port_of_view(view: &ViewGrantView) -> u16 {
    near_port(view.machine) + 10_000
}

/// What FreeRDP shall think of the certificate. That of a display is the lab's, and known. A guest's
/// own server makes one anew with each revert, which trust on first use would refuse; whom the
/// tunnel leads to, the gateway has checked.
fn certificate(desktop: &DesktopView) -> String {
    match &desktop.fingerprint {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            format!("/cert:fingerprint:sha256:{hex},deny")
        }
        _ => "/cert:ignore".into(),
    }
}

/// How `ssh` finds a card's key: by OpenSC, and not behind the keys of an agent.
pub(crate) const BY_CARD: &str = "-o PKCS11Provider=opensc-pkcs11.so -o IdentityAgent=none";

/// The command that leads each port of the researcher's PC to what is behind it, through the gateway.
pub(crate) fn ssh(
    gateway: &ConnectView,
    account: &AccountName,
    forwards: &[(u16, &(String, u16))],
) -> String {
    let forwards: Vec<String> =
        forwards.iter().map(|(near, (far, port))| format!("-L {near}:{far}:{port}")).collect();
    let port = if gateway.port == 22 { String::new() } else { format!(" -p {}", gateway.port) };
    let card = if gateway.cards_alone { format!(" {BY_CARD}") } else { String::new() };
    // Without ExitOnForwardFailure a taken port would leave a session that leads nowhere.
    format!(
        "ssh -N {} -o ExitOnForwardFailure=yes{card}{port} {account}@{}",
        forwards.join(" "),
        gateway.host
    )
}

/// The port on the researcher's PC: another for each machine, so that tunnels do not collide.
fn near_port(machine: MachineId) -> u16 {
    13_000 + u16::try_from(machine.0 % 10_000).expect("below 10,000")
}

/// The guest's user, in letters that need no quoting in a command or in a file of lines.
fn user(desktop: &DesktopView) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    desktop.user.as_deref().unwrap_or("").chars().filter(plain).collect()
}

/// The `.rdp` file of `machine`. Every redirection is off: the desktop comes in, keys go out.
pub(crate) fn rdp_file(machine: &MachineView) -> Option<String> {
    Some(rdp_lines(machine.desktop.as_ref()?, near_port(machine.id)))
}

fn rdp_lines(desktop: &DesktopView, near: u16) -> String {
    let user = user(desktop);
    let lines = [
        format!("full address:s:localhost:{near}"),
        format!("username:s:{user}"),
        // 2: warn if the certificate cannot be checked; the tunnel has checked the lab already.
        "authentication level:i:2".into(),
        "enablecredsspsupport:i:0".into(),
        "negotiate security layer:i:1".into(),
        // A display of the hypervisor asks for nobody.
        format!("prompt for credentials on client:i:{}", u8::from(!user.is_empty())),
        "promptcredentialonce:i:1".into(),
        "redirectclipboard:i:0".into(),
        "redirectdrives:i:0".into(),
        "drivestoredirect:s:".into(),
        "redirectprinters:i:0".into(),
        "redirectcomports:i:0".into(),
        "redirectsmartcards:i:0".into(),
        "redirectwebauthn:i:0".into(),
        "redirectposdevices:i:0".into(),
        "devicestoredirect:s:".into(),
        "usbdevicestoredirect:s:".into(),
        "camerastoredirect:s:".into(),
        "redirectlocation:i:0".into(),
        // 2: no sound from the machine; 0: no microphone to it.
        "audiomode:i:2".into(),
        "audiocapturemode:i:0".into(),
        "videoplaybackmode:i:0".into(),
        "remoteapplicationmode:i:0".into(),
        "gatewayusagemethod:i:0".into(),
        "autoreconnection enabled:i:1".into(),
        "keyboardhook:i:2".into(),
        "screen mode id:i:1".into(),
        "dynamic resolution:i:1".into(),
        "desktopwidth:i:1280".into(),
        "desktopheight:i:800".into(),
        "session bpp:i:32".into(),
        "compression:i:1".into(),
    ];
    lines.join("\r\n") + "\r\n"
}
