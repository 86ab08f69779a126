//! A researcher's PC: a network namespace on the street, a key, and the stock tools.

use crate::{
    net::{Namespace, Street},
    place::Place,
    ssh::{self, Forward, Tunnel},
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Output,
    sync::atomic::{AtomicU32, Ordering},
};

/// A researcher's PC.
#[derive(Debug)]
pub struct Pc {
    account: String,
    address: Ipv4Addr,
    network: Namespace,
    dir: PathBuf,
    tunnels: AtomicU32,
}

/// An answer over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpReply {
    /// Status code.
    pub status: u16,
    /// Header lines as sent.
    pub headers: String,
    /// Body.
    pub body: String,
}

impl Pc {
    pub(crate) fn on_street(street: &Street, lab: &Path, account: &str, host: u8) -> Result<Pc> {
        let [a, b, c, _] = Street::GATEWAY.octets();
        let address = Ipv4Addr::new(a, b, c, host);
        let network = Namespace::new()?;
        street.plug(&format!("pc{host}"), network.holder(), address)?;
        let dir = lab.join("pc").join(format!("{account}-{host}"));
        ssh::private_folder(&dir)?;
        ssh::key(&dir.join("id_ed25519"), account)?;
        Ok(Pc { account: account.into(), address, network, dir, tunnels: AtomicU32::new(0) })
    }

    /// Its address on the street.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The PC's network.
    pub fn place(&self) -> Place {
        self.network.place()
    }

    /// A process that holds the PC's network.
    pub fn holder(&self) -> u32 {
        self.network.holder()
    }

    /// Whose it is.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The PC's own folder, for its user alone.
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    /// The public key to be registered.
    pub fn public_key_file(&self) -> PathBuf {
        self.dir.join("id_ed25519.pub")
    }

    /// The private key.
    pub fn key_file(&self) -> PathBuf {
        self.dir.join("id_ed25519")
    }

    /// Writes the configuration with which `ssh -F FILE gateway` reaches the lab, whose host
    /// key is `host_key` (see [`ssh::host_key`]).
    pub fn ssh_config(&self, host_key: &str) -> Result<PathBuf> {
        let known_hosts = self.dir.join("known_hosts");
        ssh::pin(&known_hosts, host_key)?;
        let config = self.dir.join("ssh_config");
        let gateway = (Street::GATEWAY, 22);
        let entry =
            ssh::host_entry("gateway", &self.account, gateway, &self.key_file(), &known_hosts);
        fs::write(&config, entry).with_context(|| format!("write {}", config.display()))?;
        Ok(config)
    }

    /// Opens a tunnel with `forwards`; returns when its ports listen.
    ///
    /// Errors: the gateway refused, with what ssh said.
    pub fn tunnel(&self, host_key: &str, forwards: &[Forward]) -> Result<Tunnel> {
        let config = self.ssh_config(host_key)?;
        let n = self.tunnels.fetch_add(1, Ordering::Relaxed);
        let log = self.dir.join(format!("ssh-{n}.log"));
        let holder = self.network.holder().to_string();
        Tunnel::open(&self.place(), &holder, &config, "gateway", forwards, &log)
    }

    /// Runs `words` on the PC and gives their output.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        self.place().run(words)
    }

    /// Runs `words` on the PC, whatever comes out.
    pub fn output(&self, words: &[&str]) -> Result<Output> {
        self.place().output(words)
    }

    /// GETs `path` from 127.0.0.1:`port`.
    pub fn http_get(&self, port: u16, path: &str, headers: &[&str]) -> Result<HttpReply> {
        self.curl(port, path, headers, &[])
    }

    /// POSTs the form `fields` ("name=value") to 127.0.0.1:`port`.
    pub fn http_post(
        &self,
        port: u16,
        path: &str,
        headers: &[&str],
        fields: &[&str],
    ) -> Result<HttpReply> {
        let mut more = vec!["-X", "POST"];
        for field in fields {
            more.extend(["--data-urlencode", field]);
        }
        self.curl(port, path, headers, &more)
    }

    fn curl(&self, port: u16, path: &str, headers: &[&str], more: &[&str]) -> Result<HttpReply> {
        let url = format!("http://127.0.0.1:{port}{path}");
        let jar = self.dir.join("cookies").display().to_string();
        let mut words =
            vec!["curl", "-sS", "-i", "--max-time", "20", "--noproxy", "*", "-b", &jar, "-c", &jar];
        for header in headers {
            words.extend(["-H", header]);
        }
        words.extend(more);
        words.push(&url);
        parse(&self.run(&words)?)
    }
}

fn parse(text: &str) -> Result<HttpReply> {
    let Some((headers, body)) = text.split_once("\r\n\r\n") else {
        bail!("not an HTTP answer: {text}");
    };
    let status = headers.split_whitespace().nth(1).context("no status")?.parse()?;
    Ok(HttpReply { status, headers: headers.into(), body: body.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let reply = parse("HTTP/1.1 303 See Other\r\nLocation: /x\r\n\r\nbody").expect("valid");
        assert_eq!((reply.status, reply.body.as_str()), (303, "body"));
    }
}
