//! Who is behind a connection that the portal accepted.
//!
//! The kernel lets only an account's own uid connect to the account's loopback address, so the
//! address tells the account. The socket is looked at here, not by the portal: it must be an
//! established TCP connection whose other end is a live socket of that uid.

use nonstop_model::lab::ACCOUNT_UIDS;
use nonstop_model::{AccountId, network::ACCOUNT_NET};
use procfs::net::TcpState;
use rustix::net::{SocketType, ipproto, sockopt};
use std::{
    net::{SocketAddr, SocketAddrV4, TcpStream},
    os::fd::OwnedFd,
};

/// A descriptor that proves nobody's presence.
#[derive(Debug, thiserror::Error)]
pub enum NobodyError {
    /// Not a TCP connection.
    #[error("the descriptor is not a TCP connection")]
    NotTcp,
    /// Not on an account's address.
    #[error("the connection is not on the address of an account")]
    NotAnAccount,
    /// The person has gone, or somebody else holds the other end.
    #[error("the other end is no live socket of the account")]
    NotConnected,
    /// The kernel did not tell.
    #[error("look at the connection")]
    Io(#[from] std::io::Error),
    /// The kernel's table could not be read.
    #[error("read the kernel's table of connections")]
    Table(#[from] procfs::ProcError),
}

/// The account behind `connection`, an accepted connection on `port` of its address.
pub fn account_behind(connection: OwnedFd, port: u16) -> Result<AccountId, NobodyError> {
    let tcp = sockopt::socket_type(&connection).map_err(std::io::Error::from)?
        == SocketType::STREAM
        && sockopt::socket_protocol(&connection).map_err(std::io::Error::from)?
            == Some(ipproto::TCP);
    if !tcp {
        return Err(NobodyError::NotTcp);
    }
    let stream = TcpStream::from(connection);
    let (SocketAddr::V4(ours), SocketAddr::V4(theirs)) =
        (stream.local_addr()?, stream.peer_addr().map_err(|_| NobodyError::NotConnected)?)
    else {
        return Err(NobodyError::NotTcp);
    };
    let number = u32::from(*ours.ip()).wrapping_sub(u32::from(ACCOUNT_NET.network()));
    if !ACCOUNT_NET.contains(ours.ip()) || ours.port() != port || number == 0 {
        return Err(NobodyError::NotAnAccount);
    }
    if owner(theirs, ours)? == Some(ACCOUNT_UIDS + number) {
        Ok(AccountId(number))
    } else {
        Err(NobodyError::NotConnected)
    }
}

/// The uid of the established socket at `local` that is connected to `remote`.
fn owner(local: SocketAddrV4, remote: SocketAddrV4) -> Result<Option<u32>, NobodyError> {
    let ends = (SocketAddr::V4(local), SocketAddr::V4(remote));
    let entries = procfs::net::tcp()?;
    let found = entries.into_iter().find(|entry| {
        entry.state == TcpState::Established && (entry.local_address, entry.remote_address) == ends
    });
    Ok(found.map(|entry| entry.uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, os::unix::net::UnixStream};

    #[test]
    fn a_unix_socket_or_an_ordinary_connection_is_nobody() {
        let (a, _b) = UnixStream::pair().expect("a pair");
        assert!(matches!(account_behind(a.into(), 8080), Err(NobodyError::NotTcp)));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let _client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
        let (server, _) = listener.accept().expect("accepted");
        assert!(matches!(account_behind(server.into(), 8080), Err(NobodyError::NotAnAccount)));
    }

    #[test]
    fn a_connection_of_another_uid_to_an_accounts_address_is_nobody() {
        let listener = TcpListener::bind("127.64.0.9:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).expect("connect");
        let (server, _) = listener.accept().expect("accepted");
        let again = server.try_clone().expect("a copy");
        let nobody = account_behind(server.into(), address.port());
        assert!(matches!(nobody, Err(NobodyError::NotConnected)), "{nobody:?}");
        drop(client);
        let nobody = account_behind(again.into(), address.port());
        assert!(matches!(nobody, Err(NobodyError::NotConnected)), "{nobody:?}");
    }
}
