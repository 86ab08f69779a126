//! Everything that the gateway refuses, one line each: what is tried with the stock client, what the
//! client sees of it, and what the lab hears (which becomes `login.refused` and `gateway.denied` in the
//! trace).

use crate::place::Place;
use anyhow::{Context, Result};
use nonstop_api::heard::{RefusedFor, Wanted};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
};

/// What the lab hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hears {
    /// A login that was refused, from the row's own address.
    Refused(RefusedFor),
    /// Something that a session asked for in vain.
    Denied(Wanted),
    /// Nothing: the kernel refuses it before sshd, and counts it.
    Nothing,
}
use Hears::{Denied, Refused};

impl Hears {
    /// What stands in the trace of it: the action, and a field of its detail with its word.
    pub fn traced(self) -> Option<(&'static str, &'static str, &'static str)> {
        match self {
            Refused(why) => Some(("login.refused", "why", why.as_str())),
            Denied(what) => Some(("gateway.denied", "what", what.as_str())),
            Hears::Nothing => None,
        }
    }
}

const FORWARD: Hears = Denied(Wanted::Forward);
const SESSION: Hears = Denied(Wanted::Session);
const REMOTE: Hears = Denied(Wanted::RemoteForward);
const SOCKET: Hears = Denied(Wanted::UnixSocket);
const NO_KEY: Hears = Refused(RefusedFor::NoKey);
/// A key that the account does not have.
pub const UNKNOWN_KEY: Hears = Refused(RefusedFor::UnknownKey);
/// No such account.
pub const UNKNOWN_ACCOUNT: Hears = Refused(RefusedFor::UnknownAccount);
/// The right key from an address that is registered, but not to its account.
pub const WRONG_SOURCE: Hears = Refused(RefusedFor::Source);
const ALGORITHMS: Hears = Refused(RefusedFor::NoAlgorithms);

const PROHIBITED: &str = "open failed: administratively prohibited";
const NO_CHANNEL: &str = "open failed: connect failed";
const CLOSED: &str = "Connection closed";
const REMOTE_FAILED: &str = "remote port forwarding failed";
/// What a client hears whose key is not taken.
pub const DENIED: &str = "Permission denied (publickey)";
const NO_MATCH: &str = "no matching";

/// What is tried, by whom in shell (`alice` and `ssh_` are ssh with and without her name and key), what
/// the client sees, and what the lab hears.
pub type Row = (&'static str, &'static str, &'static str, Hears);

/// By somebody who is logged in.
pub const INSIDE: &[Row] = &[
    ("a shell", "alice -T", NO_CHANNEL, SESSION),
    ("a command", "alice_runs id", NO_CHANNEL, SESSION),
    ("a terminal", "alice -tt", NO_CHANNEL, SESSION),
    ("sftp", "sftp -q -b /dev/null $O -P $PORT -i id alice@$GATE", CLOSED, SESSION),
    ("scp", "scp -q -O $O -P $PORT -i id id.pub alice@$GATE:x", "lost connection", SESSION),
    ("scp over sftp", "scp -q $O -P $PORT -i id id.pub alice@$GATE:x", CLOSED, SESSION),
    ("a subsystem", "alice -s netconf", NO_CHANNEL, SESSION),
    (
        "its agent",
        "eval $(ssh-agent) >/dev/null; alice -A -T; e=$?; ssh-agent -k >/dev/null; exit $e",
        NO_CHANNEL,
        SESSION,
    ),
    ("X11", "DISPLAY=:1 alice -X -T", NO_CHANNEL, SESSION),
    ("variables", "LANG=x alice -o SendEnv=LANG -o SetEnv=A=b -T", NO_CHANNEL, SESSION),
    (
        "a network tunnel",
        "alice -N -w any:any -o ExitOnForwardFailure=yes",
        "Tunnel forwarding failed",
        Denied(Wanted::Tunnel),
    ),
    (
        "a tunnel of frames",
        "alice -N -o Tunnel=ethernet -w any:any -o ExitOnForwardFailure=yes",
        "Tunnel forwarding failed",
        Denied(Wanted::Tunnel),
    ),
    ("-R a port", "alice -N -R 9100:127.0.0.1:22", REMOTE_FAILED, REMOTE),
    ("-R a port for all", "alice -N -R 0.0.0.0:9100:127.0.0.1:22", REMOTE_FAILED, REMOTE),
    ("-R socks", "alice -N -R 9101", REMOTE_FAILED, REMOTE),
    ("-R a unix socket", "alice -N -R /run/x:127.0.0.1:22", REMOTE_FAILED, REMOTE),
    ("-W to the gateway's own sshd", "alice -W 127.0.0.1:2222", PROHIBITED, FORWARD),
    ("-W to the host's sshd", "alice -W 127.0.0.1:22", PROHIBITED, FORWARD),
    ("-W to PostgreSQL", "alice -W 127.0.0.1:5432", PROHIBITED, FORWARD),
    ("-W to libvirt", "alice -W 127.0.0.1:16509", PROHIBITED, FORWARD),
    ("-W by name", "alice -W localhost:8080", PROHIBITED, FORWARD),
    ("-W by IPv6", "alice -W [::1]:8080", PROHIBITED, FORWARD),
    ("-W to another port of one's own", "alice -W 127.64.0.1:22", PROHIBITED, FORWARD),
    ("-W to another account's portal", "alice -W 127.64.0.2:8080", PROHIBITED, FORWARD),
    ("-W to somebody's desktop", "alice -W 10.77.0.2:3389", PROHIBITED, FORWARD),
    ("-W to the outside", "alice -W 192.0.2.1:80", PROHIBITED, FORWARD),
    ("-L to the host's sshd", "through 9201 -L 9201:127.0.0.1:22", PROHIBITED, FORWARD),
    ("-D to the portal by another door", "socks 9202 7f000001 1f90", PROHIBITED, FORWARD),
    ("-D to the outside", "socks 9203 c0000201 0050", PROHIBITED, FORWARD),
    (
        "-L to libvirt's socket",
        "through 9204 -L 9204:/run/libvirt/libvirt-sock",
        NO_CHANNEL,
        SOCKET,
    ),
    (
        "-L to the lab's own socket",
        "through 9205 -L 9205:/run/nonstop/admin.sock",
        NO_CHANNEL,
        SOCKET,
    ),
];

/// By somebody who would like to be.
pub const OUTSIDE: &[Row] = &[
    ("no method", "alice -N -o PubkeyAuthentication=no", DENIED, NO_KEY),
    ("a password", "alice -N -o PreferredAuthentications=password", DENIED, NO_KEY),
    ("questions", "alice -N -o PreferredAuthentications=keyboard-interactive", DENIED, NO_KEY),
    (
        "the client's host",
        "alice -N -o HostbasedAuthentication=yes -o PreferredAuthentications=hostbased",
        DENIED,
        NO_KEY,
    ),
    (
        "Kerberos",
        "alice -N -o GSSAPIAuthentication=yes -o PreferredAuthentications=gssapi-with-mic",
        DENIED,
        NO_KEY,
    ),
    ("a stranger's key", "ssh_ -i stranger -l alice -N", DENIED, UNKNOWN_KEY),
    ("another account's key", "ssh_ -i bobs -l alice -N", DENIED, UNKNOWN_KEY),
    ("a certificate for the account", "ssh_ -i certified -l alice -N", DENIED, UNKNOWN_KEY),
    ("an account that is not there", "ssh_ -i id -l carol -N", DENIED, UNKNOWN_ACCOUNT),
    ("root", "ssh_ -i id -l root -N", DENIED, UNKNOWN_KEY),
    ("a user of the host", "ssh_ -i id -l games -N", DENIED, UNKNOWN_KEY),
    ("an RSA key of 1024 bits", "ssh_ -i rsa1024 -l alice -N", DENIED, NO_KEY),
    (
        "an RSA key with SHA-1",
        "ssh_ -i rsa -l alice -N -o PubkeyAcceptedAlgorithms=ssh-rsa",
        DENIED,
        NO_KEY,
    ),
    (
        "Diffie-Hellman with SHA-1",
        "alice -N -o KexAlgorithms=diffie-hellman-group14-sha1",
        NO_MATCH,
        ALGORITHMS,
    ),
    (
        "Diffie-Hellman",
        "alice -N -o KexAlgorithms=diffie-hellman-group16-sha512",
        NO_MATCH,
        ALGORITHMS,
    ),
    ("a curve of NIST", "alice -N -o KexAlgorithms=ecdh-sha2-nistp256", NO_MATCH, ALGORITHMS),
    ("a curve alone", "alice -N -o KexAlgorithms=curve25519-sha256", NO_MATCH, ALGORITHMS),
    ("triple DES", "alice -N -o Ciphers=3des-cbc", NO_MATCH, ALGORITHMS),
    ("AES in CBC", "alice -N -o Ciphers=aes256-cbc", NO_MATCH, ALGORITHMS),
    ("ChaCha20", "alice -N -o Ciphers=chacha20-poly1305@openssh.com", NO_MATCH, ALGORITHMS),
    (
        "a MAC with SHA-1",
        "alice -N -o Ciphers=aes256-ctr -o MACs=hmac-sha1-etm@openssh.com",
        NO_MATCH,
        ALGORITHMS,
    ),
    (
        "a MAC of the plain text",
        "alice -N -o Ciphers=aes256-ctr -o MACs=hmac-sha2-256",
        NO_MATCH,
        ALGORITHMS,
    ),
    ("an RSA host key", "alice -N -o HostKeyAlgorithms=rsa-sha2-512", NO_MATCH, ALGORITHMS),
    (
        "an ECDSA host key",
        "alice -N -o HostKeyAlgorithms=ecdsa-sha2-nistp256",
        NO_MATCH,
        ALGORITHMS,
    ),
    (
        "SSH 1",
        "says 'SSH-1.5-OldClient'",
        "Protocol major versions differ",
        Refused(RefusedFor::NotSsh),
    ),
    (
        "no SSH at all",
        "says 'GET / HTTP/1.1'",
        "Invalid SSH identification string",
        Refused(RefusedFor::NotSsh),
    ),
];

/// What came of a try, as its client sees it.
#[derive(Debug)]
pub struct Tried {
    /// What the client said.
    pub said: String,
    /// Whether it failed, with the words that it should.
    pub refused: bool,
}

/// Tries `row` at `gate`, at `place`, from its address `from` with the keys in `folder`: `id` is alice's.
///
/// Errors: bash does not run.
pub fn attempt(
    (_, tries, sees, _): &Row,
    place: &Place,
    folder: &Path,
    from: Ipv4Addr,
    gate: SocketAddrV4,
) -> Result<Tried> {
    let output = place
        .command("bash")
        .args(["-c", &format!("{SHELL}\n{tries}")])
        .env("FROM", from.to_string())
        .env("GATE", gate.ip().to_string())
        .env("PORT", gate.port().to_string())
        .env_remove("SSH_AUTH_SOCK")
        .current_dir(folder)
        .output()
        .context("run bash")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    // One that lasts until it is stopped has been let in.
    let stayed = output.status.code() == Some(124);
    let refused = !output.status.success() && !stayed && said.contains(sees);
    Ok(Tried { said, refused })
}

const SHELL: &str = r#"
O="-F none -o IdentityAgent=none -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no
   -o UserKnownHostsFile=/dev/null -o ConnectTimeout=3 -o ExitOnForwardFailure=yes -o BindAddress=$FROM"
ssh_() { timeout 5 ssh $O -p $PORT "$@" $GATE </dev/null; }
alice() { case "$1" in -s) timeout 5 ssh $O -p $PORT -i id -l alice -s $GATE "$2" </dev/null ;;
          *) ssh_ -i id -l alice "$@" ;; esac; }
alice_runs() { timeout 5 ssh $O -p $PORT -i id -l alice $GATE "$@" </dev/null; }
says() { exec 3<>/dev/tcp/$GATE/$PORT; printf '%s\r\n' "$1" >&3; timeout 5 cat <&3; exit 1; }
open_at() { i=0; until exec 3<>/dev/tcp/127.0.0.1/$1; do
    i=$((i+1)); [ $i -lt 50 ] || exit 1; sleep 0.1; done 2>/dev/null; }
answers() { timeout 3 head -c 1 <&3 | grep -q . && { echo GOT THROUGH; exit 0; }
    exec 3>&-; sleep 0.2; kill $!; exit 1; }
through() { port=$1; shift; alice -N "$@" & open_at $port; echo x >&3; answers; }
socks() { alice -N -D $1 & open_at $1; printf '\5\1\0' >&3; head -c 2 <&3 >/dev/null
    printf "\\5\\1\\0\\1$(echo $2$3 | sed 's/../\\x&/g')" >&3; head -c 10 <&3 >/dev/null; answers; }
"#;
