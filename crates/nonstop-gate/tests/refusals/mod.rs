//! Everything that the gateway refuses, one line each: what is tried with the stock client, what the
//! client sees of it, and what the lab hears (which becomes `login.refused` and `gateway.denied` in the
//! trace).

use crate::lab::{Lab, in_a_box, sh};
use nonstop_api::heard::{Heard, RefusedFor, Wanted};
use std::{net::Ipv4Addr, process::Command, time::Duration};

/// What the lab hears.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hears {
    /// A login that was refused, from the row's own address.
    Refused(RefusedFor),
    /// Something that a session asked for in vain.
    Denied(Wanted),
    /// Nothing: the kernel refuses it before sshd, and counts it.
    Nothing,
}
use Hears::{Denied, Nothing, Refused};

const FORWARD: Hears = Denied(Wanted::Forward);
const SESSION: Hears = Denied(Wanted::Session);
const REMOTE: Hears = Denied(Wanted::RemoteForward);
const SOCKET: Hears = Denied(Wanted::UnixSocket);
const NO_KEY: Hears = Refused(RefusedFor::NoKey);
const UNKNOWN_KEY: Hears = Refused(RefusedFor::UnknownKey);
const UNKNOWN_ACCOUNT: Hears = Refused(RefusedFor::UnknownAccount);
const ALGORITHMS: Hears = Refused(RefusedFor::NoAlgorithms);

const PROHIBITED: &str = "open failed: administratively prohibited";
const NO_CHANNEL: &str = "open failed: connect failed";
const CLOSED: &str = "Connection closed";
const REMOTE_FAILED: &str = "remote port forwarding failed";
const DENIED: &str = "Permission denied (publickey)";
const NO_MATCH: &str = "no matching";

/// What is tried, by whom in shell (`alice` and `ssh_` are ssh with and without her name and key), what
/// the client sees, and what the lab hears.
type Row = (&'static str, &'static str, &'static str, Hears);

/// By somebody who is logged in.
const INSIDE: &[Row] = &[
    ("a shell", "alice -T", NO_CHANNEL, SESSION),
    ("a command", "alice_runs id", NO_CHANNEL, SESSION),
    ("a terminal", "alice -tt", NO_CHANNEL, SESSION),
    ("sftp", "sftp -q -b /dev/null $O -P 2222 -i id alice@127.0.0.1", CLOSED, SESSION),
    ("scp", "scp -q -O $O -P 2222 -i id id.pub alice@127.0.0.1:x", "lost connection", SESSION),
    ("scp over sftp", "scp -q $O -P 2222 -i id id.pub alice@127.0.0.1:x", CLOSED, SESSION),
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
const OUTSIDE: &[Row] = &[
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

const SHELL: &str = r#"
O="-F none -o IdentityAgent=none -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no
   -o UserKnownHostsFile=/dev/null -o ConnectTimeout=3 -o ExitOnForwardFailure=yes -o BindAddress=$FROM"
ssh_() { timeout 5 ssh $O -p 2222 "$@" 127.0.0.1 </dev/null; }
alice() { case "$1" in -s) timeout 5 ssh $O -p 2222 -i id -l alice -s 127.0.0.1 "$2" </dev/null ;;
          *) ssh_ -i id -l alice "$@" ;; esac; }
alice_runs() { timeout 5 ssh $O -p 2222 -i id -l alice 127.0.0.1 "$@" </dev/null; }
says() { exec 3<>/dev/tcp/127.0.0.1/2222; printf '%s\r\n' "$1" >&3; timeout 5 cat <&3; exit 1; }
open_at() { i=0; until exec 3<>/dev/tcp/127.0.0.1/$1; do
    i=$((i+1)); [ $i -lt 50 ] || exit 1; sleep 0.1; done 2>/dev/null; }
answers() { timeout 3 head -c 1 <&3 | grep -q . && { echo GOT THROUGH; exit 0; }
    exec 3>&-; sleep 0.2; kill $!; exit 1; }
through() { port=$1; shift; alice -N "$@" & open_at $port; echo x >&3; answers; }
socks() { alice -N -D $1 & open_at $1; printf '\5\1\0' >&3; head -c 2 <&3 >/dev/null
    printf "\\5\\1\\0\\1$(echo $2$3 | sed 's/../\\x&/g')" >&3; head -c 10 <&3 >/dev/null; answers; }
"#;

/// Tries each row from an address of its own; gives what was not refused as it should be.
fn try_all(lab: &Lab, net: u8, rows: &[Row]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (n, (what, tries, sees, hears)) in rows.iter().enumerate() {
        let from = Ipv4Addr::new(127, 0, net, n as u8 + 1);
        let before = lab.heard().len();
        let output = Command::new("bash")
            .args(["-c", &format!("{SHELL}\n{tries}")])
            .env("FROM", from.to_string())
            .env_remove("SSH_AUTH_SOCK")
            .current_dir(lab.folder())
            .output()
            .expect("bash runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let seen = !output.status.success() && said.contains(sees);
        // A row that is refused by timeout would have been let in.
        let stayed = output.status.code() == Some(124);
        let heard = lab.within(Duration::from_secs(3), || {
            let heard = lab.heard();
            let mut new = heard.iter().skip(before);
            match hears {
                Nothing => true,
                Denied(wanted) => {
                    new.any(|h| matches!(h, Heard::Denied { what, .. } if what == wanted))
                }
                Refused(why) => new.any(|h| matches!(h, Heard::Refused(r) if r.why == *why)),
            }
        });
        println!("{what:34} {} {hears:?}", said.trim().lines().last().unwrap_or_default());
        if !seen || stayed || !heard {
            let heard: Vec<_> = lab.heard().into_iter().skip(before).collect();
            wrong.push(format!("{what}: {}: {said}\n    heard {heard:?}", output.status));
        }
    }
    wrong
}

/// Keys of a stranger, of another account, of kinds that are refused; a certificate.
fn keys(lab: &Lab) {
    sh(&format!(
        "cd {}
         for k in stranger bobs certified ca; do ssh-keygen -q -t ed25519 -N '' -f $k; done
         ssh-keygen -q -s ca -I alice -n alice certified.pub
         ssh-keygen -q -t rsa -b 1024 -N '' -f rsa1024; ssh-keygen -q -t rsa -b 2048 -N '' -f rsa
         keys=/run/nonstop/gate/keys
         for k in rsa1024 rsa; do
             sed -n \"s|ssh-ed25519.*|$(cut -d' ' -f1,2 $k.pub)|p\" $keys/alice > line; cat line >> $keys/alice
             sed -i '/^$/d' $keys/alice; done
         sed -i \"s|ssh-ed25519 [^ ]*$|$(cut -d' ' -f1,2 bobs.pub)|\" $keys/bob",
        lab.folder().display()
    ));
}

#[test]
fn a_session_forwards_to_its_own_targets_and_whatever_else_it_asks_for_is_refused_and_heard() {
    in_a_box(
        "refusals::a_session_forwards_to_its_own_targets_and_whatever_else_it_asks_for_is_refused_and_heard",
        || {
            let lab = Lab::new();
            lab.open("alice");
            lab.open("bob");
            let mut own = lab.ssh("alice", &["-N", "-L", "9000:127.64.0.1:8080"]);
            assert!(own.ask(9000).is_some());
            let wrong = try_all(&lab, 2, INSIDE);
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
            assert!(own.ask(9000).is_some(), "and all that time the tunnel stands");
        },
    );
}

#[test]
fn who_has_not_the_key_the_address_or_the_algorithms_is_refused_and_heard() {
    in_a_box(
        "refusals::who_has_not_the_key_the_address_or_the_algorithms_is_refused_and_heard",
        || {
            let lab = Lab::new();
            lab.open("alice");
            lab.open("bob");
            keys(&lab);
            let mut wrong = try_all(&lab, 3, OUTSIDE);
            let daemons: &[Row] = &[(
                "suspended just now",
                "alice -N",
                "Connection closed",
                Refused(RefusedFor::Daemon),
            )];
            lab.answer(false);
            wrong.extend(try_all(&lab, 4, daemons));
            lab.answer(true);
            // The key line is the second wall of address and time.
            let keys = lab.key_file("alice");
            let own = std::fs::read_to_string(&keys).expect("there");
            for (net, change, why) in [
                (
                    5,
                    own.replace("from=\"127.0.0.0/8\"", "from=\"192.0.2.0/24\""),
                    RefusedFor::Source,
                ),
                (
                    6,
                    own.replace("restrict", "restrict,expiry-time=\"202001010000Z\""),
                    RefusedFor::Expired,
                ),
                (7, String::new(), RefusedFor::UnknownKey),
            ] {
                std::fs::write(&keys, change).expect("written");
                wrong.extend(try_all(
                    &lab,
                    net,
                    &[("by its key line", "alice -N", DENIED, Refused(why))],
                ));
            }
            // The kernel is the first: nothing of it comes to sshd.
            sh("ip addr add 192.0.2.9/32 dev lo");
            let elsewhere =
                "O=\"$O -o BindAddress=192.0.2.9\"; ssh_ -b 192.0.2.9 -i id -l alice -N";
            wrong.extend(try_all(&lab, 8, &[("another address", elsewhere, "timed out", Nothing)]));
            let refused = lab.firewall().refused().expect("asked");
            assert!(
                refused
                    .iter()
                    .any(|one| one.source == Ipv4Addr::new(192, 0, 2, 9) && !one.registered)
            );
            lab.close("alice");
            let gone = ("suspended, revoked, removed", "alice -N", DENIED, UNKNOWN_ACCOUNT);
            wrong.extend(try_all(&lab, 9, &[gone]));
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
            // DSA is none of this OpenSSH's: nobody can try it, and nothing allows it.
            let allowed =
                sh("/usr/sbin/sshd -T -f /run/nonstop/gate/sshd_config | grep -i algorithms");
            assert!(!allowed.contains("dss") && !allowed.contains("ssh-rsa"), "{allowed}");
        },
    );
}
