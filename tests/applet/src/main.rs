//! A PIV applet that others wrote (Nitrokey's `piv-authenticator`), in the virtual reader of `vpcd`.
//!
//! What it keeps is lost with its power. RSA keys need a backend that no package registry has:
//! this one makes EC keys alone.

use iso7816::{Instruction, Status, command::CommandView};
use piv_authenticator::{Authenticator, Options};
use trussed::{
    backend::BackendId,
    platform::Platform,
    serde_extensions::{ExtensionDispatch, ExtensionId, ExtensionImpl},
    service::ServiceResources,
    backend::Backend,
    types::Context,
    virt::{self, StoreConfig},
};
use trussed_auth::AuthExtension;
use trussed_auth_backend::{AuthBackend, AuthContext, FilesystemLayout};
use trussed_chunked::ChunkedExtension;
use trussed_core::{
    Error,
    api::{Reply, Request, reply, request},
    types::Location,
};
use trussed_hpke::HpkeExtension;
use trussed_staging::{StagingBackend, StagingContext};
use trussed_wrap_key_to_file::WrapKeyToFileExtension;
use vpicc::VSmartCard;

struct Dispatch {
    staging: StagingBackend,
    auth: AuthBackend,
}

#[derive(Default)]
struct Contexts {
    staging: StagingContext,
    auth: AuthContext,
}

#[derive(Debug, Clone, Copy)]
enum Backends {
    Staging,
    Auth,
}

#[derive(Debug, Clone, Copy)]
enum Extensions {
    Auth,
    Chunked,
    WrapKeyToFile,
    Hpke,
}

impl From<Extensions> for u8 {
    fn from(extension: Extensions) -> u8 {
        extension as u8
    }
}

impl TryFrom<u8> for Extensions {
    type Error = Error;

    fn try_from(number: u8) -> Result<Self, Error> {
        [Extensions::Auth, Extensions::Chunked, Extensions::WrapKeyToFile, Extensions::Hpke]
            .into_iter()
            .find(|e| *e as u8 == number)
            .ok_or(Error::InternalError)
    }
}

impl ExtensionId<AuthExtension> for Dispatch {
    type Id = Extensions;
    const ID: Extensions = Extensions::Auth;
}
impl ExtensionId<ChunkedExtension> for Dispatch {
    type Id = Extensions;
    const ID: Extensions = Extensions::Chunked;
}
impl ExtensionId<WrapKeyToFileExtension> for Dispatch {
    type Id = Extensions;
    const ID: Extensions = Extensions::WrapKeyToFile;
}
impl ExtensionId<HpkeExtension> for Dispatch {
    type Id = Extensions;
    const ID: Extensions = Extensions::Hpke;
}

impl ExtensionDispatch for Dispatch {
    type BackendId = Backends;
    type Context = Contexts;
    type ExtensionId = Extensions;

    fn core_request<P: Platform>(
        &mut self,
        backend: &Backends,
        ctx: &mut Context<Contexts>,
        request: &Request,
        resources: &mut ServiceResources<P>,
    ) -> Result<Reply, Error> {
        match backend {
            Backends::Staging => {
                self.staging.request(&mut ctx.core, &mut ctx.backends.staging, request, resources)
            }
            Backends::Auth => {
                self.auth.request(&mut ctx.core, &mut ctx.backends.auth, request, resources)
            }
        }
    }

    fn extension_request<P: Platform>(
        &mut self,
        backend: &Backends,
        extension: &Extensions,
        ctx: &mut Context<Contexts>,
        request: &request::SerdeExtension,
        resources: &mut ServiceResources<P>,
    ) -> Result<reply::SerdeExtension, Error> {
        macro_rules! ask {
            ($kind:ty, $backend:ident) => {
                <_ as ExtensionImpl<$kind>>::extension_request_serialized(
                    &mut self.$backend,
                    &mut ctx.core,
                    &mut ctx.backends.$backend,
                    request,
                    resources,
                )
            };
        }
        match (backend, extension) {
            (Backends::Auth, Extensions::Auth) => ask!(AuthExtension, auth),
            (Backends::Staging, Extensions::Chunked) => ask!(ChunkedExtension, staging),
            (Backends::Staging, Extensions::WrapKeyToFile) => ask!(WrapKeyToFileExtension, staging),
            (Backends::Staging, Extensions::Hpke) => ask!(HpkeExtension, staging),
            _ => Err(Error::RequestNotAvailable),
        }
    }
}

type Client<'a> = virt::Client<'a, Dispatch>;

/// The card: chaining both ways is the transport's, not the applet's.
struct Card<'a> {
    applet: Authenticator<Client<'a>>,
    begun: Vec<u8>,
    waiting: Vec<u8>,
}

impl Card<'_> {
    fn command(&mut self, message: &[u8]) -> (Vec<u8>, u16) {
        let Ok(command) = CommandView::try_from(message) else { return (vec![], 0x6700) };
        if command.class().chain().not_the_last() {
            self.begun.extend_from_slice(command.data());
            return (vec![], 0x9000);
        }
        if command.instruction() == Instruction::GetResponse {
            return (std::mem::take(&mut self.waiting), 0x9000);
        }
        let data = [&std::mem::take(&mut self.begun)[..], command.data()].concat();
        let mut whole = message[..4].to_vec();
        if !data.is_empty() {
            // As an extended command: the applet takes the data whole.
            whole.push(0);
            whole.extend((data.len() as u16).to_be_bytes());
            whole.extend_from_slice(&data);
        }
        let Ok(command) = CommandView::try_from(&whole[..]) else { return (vec![], 0x6700) };
        let mut reply = heapless::Vec::<u8, 4096>::new();
        match self.applet.respond(command, reply.as_mut_view()) {
            Ok(()) => (reply.to_vec(), 0x9000),
            Err(status) => (vec![], u16::from(status)),
        }
    }
}

impl VSmartCard for Card<'_> {
    fn execute(&mut self, message: &[u8]) -> Vec<u8> {
        let (mut data, status) = self.command(message);
        self.waiting = data.split_off(data.len().min(256));
        let status = match self.waiting.len() {
            0 => status,
            n => 0x6100 | (n.min(256) % 256) as u16,
        };
        data.extend(status.to_be_bytes());
        data
    }
}

fn main() -> std::io::Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|p| p.parse().ok()).unwrap_or(35963);
    let reader = vpicc::connect_socket(format!("127.0.0.1:{port}"))?;
    let dispatch = Dispatch {
        staging: StagingBackend::new(),
        auth: AuthBackend::new(Location::Internal, FilesystemLayout::V0),
    };
    virt::with_platform(StoreConfig::ram(), |platform| {
        platform.run_client_with_backends(
            "piv",
            dispatch,
            &[
                BackendId::Custom(Backends::Auth),
                BackendId::Custom(Backends::Staging),
                BackendId::Core,
            ],
            |client| {
                let applet = Authenticator::new(client, Options::new());
                reader.run(&mut Card { applet, begun: vec![], waiting: vec![] })
            },
        )
    })
}
