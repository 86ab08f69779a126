//! The rules that keep everything closed before the daemon runs, in a kernel of its own.

use anyhow::Result;
use nonstop_testkit::net::Namespace;

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../systemd/closed.nft");

#[test]
fn without_the_daemon_accounts_addresses_are_closed_and_the_rest_of_the_host_is_not() -> Result<()>
{
    let host = Namespace::new()?;
    let mut servers = Vec::new();
    for address in ["127.64.0.7", "127.0.0.1"] {
        let mut httpd = host.place().command("busybox");
        let at = format!("{address}:8080");
        servers.push(httpd.args(["httpd", "-f", "-h", "/proc/self/fd", "-p", &at]).spawn()?);
    }
    let reaches = |address: &str| {
        let connect = format!("exec 3<>/dev/tcp/{address}/8080");
        host.place().output(&["timeout", "2", "bash", "-c", &connect]).map(|o| o.status.success())
    };
    nonstop_testkit::place::wait_for("servers", std::time::Duration::from_secs(5), || {
        Ok((reaches("127.64.0.7")? && reaches("127.0.0.1")?).then_some(()))
    })?;
    // Twice: loading is repeatable.
    host.place().run(&["nft", "-f", RULES])?;
    host.place().run(&["nft", "-f", RULES])?;
    assert!(!reaches("127.64.0.7")?, "an account's address is closed, to root too");
    assert!(reaches("127.0.0.1")?, "what is not ours is left alone");
    for mut server in servers {
        server.kill()?;
        server.wait()?;
    }
    Ok(())
}
