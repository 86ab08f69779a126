//! Desktops: the RDP client that the PC has, its command line, and the `.rdp` file for those that
//! want one. Every redirection is off: the picture comes in, keys and pointer go out.

use crate::os::{Os, Variable};
use nonstop_profile::{Account, Desktop};
use std::path::PathBuf;

/// An RDP client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Client {
    /// `xfreerdp3`, `xfreerdp` or `wlfreerdp`.
    FreeRdp(PathBuf),
    /// `mstsc`, which takes an `.rdp` file.
    Mstsc(PathBuf),
    /// `open`, with the name of an application that takes an `.rdp` file.
    Open(PathBuf, &'static str),
}

/// Where macOS keeps Microsoft's client, under its newer and its older name.
const MAC_CLIENTS: [&str; 2] = ["Windows App", "Microsoft Remote Desktop"];

impl Client {
    /// The client that this PC has; None where there is none, or no screen.
    pub fn find(
        os: Os,
        variable: Variable<'_>,
        is_there: &dyn Fn(&std::path::Path) -> bool,
    ) -> Option<Client> {
        let program = |name: &&str| os.program(name, variable);
        match os {
            Os::Linux => {
                let x11 =
                    ["xfreerdp3", "xfreerdp"].iter().filter(|_| variable("DISPLAY").is_some());
                let wayland = ["wlfreerdp3", "wlfreerdp"]
                    .iter()
                    .filter(|_| variable("WAYLAND_DISPLAY").is_some());
                x11.chain(wayland).find_map(program).map(Client::FreeRdp)
            }
            Os::MacOs => {
                let app = MAC_CLIENTS.into_iter().find(|app| {
                    is_there(std::path::Path::new(&format!("/Applications/{app}.app")))
                });
                match app {
                    Some(app) => Some(Client::Open(program(&"open")?, app)),
                    None => ["xfreerdp3", "xfreerdp"].iter().find_map(program).map(Client::FreeRdp),
                }
            }
            Os::Windows => program(&"mstsc").map(Client::Mstsc),
        }
    }

    /// Whether it wants the `.rdp` file.
    pub fn wants_file(&self) -> bool {
        !matches!(self, Client::FreeRdp(_))
    }

    /// The program and the words that show `desktop` at `port` of this PC; `file` is the `.rdp` file
    /// for those who want it.
    pub fn command(
        &self,
        desktop: &Desktop,
        account: &Account,
        port: u16,
        file: &str,
    ) -> (PathBuf, Vec<String>) {
        match self {
            Client::FreeRdp(program) => (program.clone(), freerdp(desktop, account, port)),
            Client::Mstsc(program) => (program.clone(), vec![file.into()]),
            Client::Open(program, app) => {
                (program.clone(), vec!["-W".into(), "-a".into(), (*app).into(), file.into()])
            }
        }
    }
}

/// FreeRDP's words, of 2 and 3 alike.
fn freerdp(desktop: &Desktop, account: &Account, port: u16) -> Vec<String> {
    let mut words = vec![format!("/v:127.0.0.1:{port}")];
    match &desktop.user {
        Some(user) => words.push(format!("/u:{user}")),
        // A display asks for nobody; without both FreeRDP would.
        None => words.extend([format!("/u:{account}"), "/p:".into()]),
    }
    words.push(match &desktop.certificate {
        Some(digest) => format!("/cert:fingerprint:sha256:{digest},deny"),
        // The guest's own server makes one anew with each revert; whom the tunnel leads to, the
        // gateway has checked.
        None => "/cert:ignore".into(),
    });
    let more = [
        "-clipboard",
        "-drives",
        "-home-drive",
        "/audio-mode:2",
        "+auto-reconnect",
        "/auto-reconnect-max-retries:1000",
        "/dynamic-resolution",
        "/gfx",
        "/size:1280x800",
    ];
    words.extend(more.map(String::from));
    words.push(format!("/t:{}", desktop.name()));
    words
}

/// The text of the `.rdp` file of `desktop` at `port` of this PC.
pub fn rdp_file(desktop: &Desktop, port: u16) -> String {
    let user = desktop.user.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut lines = vec![
        format!("full address:s:127.0.0.1:{port}"),
        format!("username:s:{user}"),
        format!("prompt for credentials on client:i:{}", u8::from(!user.is_empty())),
    ];
    lines.extend(RDP_SETTINGS.map(String::from));
    lines.join("\r\n") + "\r\n"
}

/// What is the same for each desktop: as in the `.rdp` files that the portal hands out, which a test
/// holds beside.
pub const RDP_SETTINGS: [&str; 29] = [
    // 2: warn if the certificate cannot be checked; the tunnel has checked the lab already.
    "authentication level:i:2",
    "enablecredsspsupport:i:0",
    "negotiate security layer:i:1",
    "promptcredentialonce:i:1",
    "redirectclipboard:i:0",
    "redirectdrives:i:0",
    "drivestoredirect:s:",
    "redirectprinters:i:0",
    "redirectcomports:i:0",
    "redirectsmartcards:i:0",
    "redirectwebauthn:i:0",
    "redirectposdevices:i:0",
    "devicestoredirect:s:",
    "usbdevicestoredirect:s:",
    "camerastoredirect:s:",
    "redirectlocation:i:0",
    // 2: no sound from the machine; 0: no microphone to it.
    "audiomode:i:2",
    "audiocapturemode:i:0",
    "videoplaybackmode:i:0",
    "remoteapplicationmode:i:0",
    "gatewayusagemethod:i:0",
    "autoreconnection enabled:i:1",
    "keyboardhook:i:2",
    "screen mode id:i:1",
    "dynamic resolution:i:1",
    "desktopwidth:i:1280",
    "desktopheight:i:800",
    "session bpp:i:32",
    "compression:i:1",
];
