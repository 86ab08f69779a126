//! IronRDP's client, word by word: what it is sent is seen, and it may say anything.

use super::Watch;
use ironrdp_connector::{
    BitmapConfig, ClientConnector, Config, ConnectionResult, Credentials, DesktopSize, Sequence,
    connection_activation::ConnectionActivationState,
};
use ironrdp_core::WriteBuf;
use ironrdp_dvc::DrdynvcClient;
use ironrdp_pdu::{
    gcc::KeyboardType,
    input::fast_path::{FastPathInput, FastPathInputEvent},
    rdp::{
        capability_sets::{BitmapCodecs, MajorPlatformType, client_codecs_capabilities},
        client_info::{PerformanceFlags, TimezoneInfo},
    },
};
use ironrdp_session::{ActiveStage, ActiveStageBuilder, ActiveStageOutput, image::DecodedImage};
use ironrdp_svc::StaticChannelSet;
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_rustls::rustls::{
    self, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// A connection after TLS.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A client in its session.
pub struct Iron {
    pub wire: Frames,
    pub stage: ActiveStage,
    pub image: DecodedImage,
    pub result: Kept,
    /// What pointers it was sent.
    pub pointers: Vec<ActiveStageOutput>,
    /// Bytes that came, after TLS.
    pub received: u64,
}

/// What stays of the connection's beginning.
pub struct Kept {
    pub io_channel_id: u16,
    pub user_channel_id: u16,
    /// The channel of dynamic channels, if one was offered.
    pub drdynvc: Option<u16>,
    pub size: DesktopSize,
    factory: ironrdp_connector::connection_activation::ConnectionActivationFactory,
}

/// A stream cut into what belongs together.
pub struct Frames {
    pub tls: Tls,
    pub buffer: Vec<u8>,
}

impl Frames {
    /// The next `RDP` packet; None if none came within `limit`, an error at the end.
    pub fn next(&mut self, limit: Duration) -> std::io::Result<Option<Vec<u8>>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(info) =
                ironrdp_pdu::find_size(&self.buffer).map_err(std::io::Error::other)?
                && info.length <= self.buffer.len()
            {
                let rest = self.buffer.split_off(info.length);
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.tls.sock.set_read_timeout(Some(left))?;
            let mut part = [0; 16 << 10];
            match self.tls.read(&mut part) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.buffer.extend_from_slice(&part[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }
}

/// What a client says of itself that takes pictures as they are.
pub fn config(width: u16, height: u16) -> Config {
    Config {
        desktop_size: DesktopSize { width, height },
        desktop_scale_factor: 0,
        enable_tls: true,
        enable_credssp: false,
        credentials: Credentials::UsernamePassword { username: "x".into(), password: "y".into() },
        domain: None,
        client_build: 0,
        client_name: "iron".into(),
        keyboard_type: KeyboardType::IbmEnhanced,
        keyboard_subtype: 0,
        keyboard_functional_keys_count: 12,
        keyboard_layout: 0x411,
        ime_file_name: String::new(),
        bitmap: Some(BitmapConfig {
            lossy_compression: false,
            color_depth: 32,
            codecs: BitmapCodecs(Vec::new()),
        }),
        dig_product_id: String::new(),
        client_dir: String::new(),
        alternate_shell: String::new(),
        work_dir: String::new(),
        platform: MajorPlatformType::UNIX,
        hardware_id: None,
        request_data: None,
        autologon: false,
        enable_audio_playback: true,
        performance_flags: PerformanceFlags::default(),
        license_cache: None,
        timezone_info: TimezoneInfo::default(),
        compression_type: None,
        enable_server_pointer: true,
        pointer_software_rendering: false,
        multitransport_flags: None,
    }
}

/// A client as IronRDP's own viewer is: it takes pictures that are nearly the same.
pub fn lossy(width: u16, height: u16) -> Config {
    let mut config = config(width, height);
    if let Some(bitmap) = &mut config.bitmap {
        bitmap.codecs = client_codecs_capabilities(&[]).expect("codecs");
    }
    config
}

/// Connects by TCP and TLS, up to where the client says what it wants.
pub fn secured(watch: &Watch) -> Tls {
    let mut tcp = TcpStream::connect(watch.address).expect("a connection");
    tcp.set_nodelay(true).expect("no delay");
    // A connection request that asks for TLS, and its answer.
    tcp.write_all(&[3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 1, 0, 0, 0]).expect("asked");
    let mut answer = [0; 19];
    tcp.read_exact(&mut answer).expect("answered");
    assert_eq!(answer[11], 2, "TLS was refused");
    tls(tcp, watch.certificate.clone())
}

fn tls(tcp: TcpStream, certificate: Vec<u8>) -> Tls {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(This(certificate)))
        .with_no_client_auth();
    let name = ServerName::try_from("desktop").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    StreamOwned::new(connection, tcp)
}

impl Iron {
    /// A client of this size with these channels, in its session.
    pub fn open(watch: &Watch, config: Config, channels: StaticChannelSet) -> Iron {
        let tcp = TcpStream::connect(watch.address).expect("a connection");
        Iron::over(tcp, watch.certificate.clone(), config, channels).expect("a session")
    }

    pub fn plain(watch: &Watch, width: u16, height: u16) -> Iron {
        Iron::open(watch, config(width, height), StaticChannelSet::new())
    }

    pub fn over(
        mut tcp: TcpStream,
        certificate: Vec<u8>,
        config: Config,
        channels: StaticChannelSet,
    ) -> std::io::Result<Iron> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(super::PATIENCE))?;
        let mut connector = ClientConnector::new(config, tcp.local_addr()?);
        connector.static_channels = channels;
        let mut out = WriteBuf::new();
        let other = std::io::Error::other::<ironrdp_connector::ConnectorError>;
        while !connector.should_perform_security_upgrade() {
            let mut input = Vec::new();
            if connector.next_pdu_hint().is_some() {
                let mut head = [0; 4];
                tcp.read_exact(&mut head)?;
                input.resize(usize::from(u16::from_be_bytes([head[2], head[3]])), 0);
                input[..4].copy_from_slice(&head);
                tcp.read_exact(&mut input[4..])?;
            }
            out.clear();
            connector.step(&input, &mut out).map_err(other)?;
            tcp.write_all(out.filled())?;
        }
        connector.mark_security_upgrade_as_done();
        let mut wire = Frames { tls: tls(tcp, certificate), buffer: Vec::new() };
        let result = loop {
            let mut input = Vec::new();
            if connector.next_pdu_hint().is_some() {
                let frame = wire.next(super::PATIENCE)?;
                input = frame.ok_or(std::io::ErrorKind::TimedOut)?;
            }
            out.clear();
            connector.step(&input, &mut out).map_err(other)?;
            wire.tls.write_all(out.filled())?;
            if let ironrdp_connector::ClientConnectorState::Connected { result } = connector.state {
                break result;
            }
        };
        Ok(Iron::begin(wire, result))
    }

    fn begin(wire: Frames, result: ConnectionResult) -> Iron {
        let size = result.desktop_size;
        let drdynvc = result.static_channels.get_channel_id_by_type::<DrdynvcClient>();
        let stage = ActiveStageBuilder {
            static_channels: result.static_channels,
            user_channel_id: result.user_channel_id,
            io_channel_id: result.io_channel_id,
            message_channel_id: result.message_channel_id,
            share_id: result.share_id,
            compression_type: result.compression_type,
            enable_server_pointer: result.enable_server_pointer,
            pointer_software_rendering: result.pointer_software_rendering,
        }
        .build();
        let kept = Kept {
            io_channel_id: result.io_channel_id,
            user_channel_id: result.user_channel_id,
            drdynvc,
            size,
            factory: result.activation_factory,
        };
        let image = image(size);
        Iron { wire, stage, image, result: kept, pointers: Vec::new(), received: 0 }
    }

    /// Takes in what comes within `limit`; an error when the session has ended.
    pub fn look(&mut self, limit: Duration) -> std::io::Result<()> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Some(frame) = self.wire.next(left)? else { return Ok(()) };
            self.received += frame.len() as u64;
            let info = ironrdp_pdu::find_size(&frame).map_err(std::io::Error::other)?;
            let action = info.ok_or(std::io::ErrorKind::InvalidData)?.action;
            let said = self.stage.process(&mut self.image, action, &frame);
            for output in said.map_err(std::io::Error::other)? {
                match output {
                    ActiveStageOutput::ResponseFrame(bytes) => self.wire.tls.write_all(&bytes)?,
                    ActiveStageOutput::Terminate(_) => {
                        return Err(std::io::ErrorKind::ConnectionAborted.into());
                    }
                    ActiveStageOutput::DeactivateAll => self.activate()?,
                    ActiveStageOutput::PointerBitmap(_)
                    | ActiveStageOutput::PointerHidden
                    | ActiveStageOutput::PointerDefault => self.pointers.push(output),
                    _ => {}
                }
            }
        }
    }

    /// The server wants another size.
    fn activate(&mut self) -> std::io::Result<()> {
        let mut sequence = self.result.factory.create();
        let mut out = WriteBuf::new();
        loop {
            let mut input = Vec::new();
            if sequence.next_pdu_hint().is_some() {
                let frame = self.wire.next(super::PATIENCE)?;
                input = frame.ok_or(std::io::ErrorKind::TimedOut)?;
            }
            out.clear();
            sequence.step(&input, &mut out).map_err(std::io::Error::other)?;
            self.wire.tls.write_all(out.filled())?;
            if let ConnectionActivationState::Finalized { desktop_size, share_id, .. } =
                sequence.connection_activation_state()
            {
                self.result.size = desktop_size;
                self.image = image(desktop_size);
                self.stage.set_share_id(share_id);
                return Ok(());
            }
        }
    }

    /// Types and points.
    pub fn input(&mut self, events: &[FastPathInputEvent]) {
        let input = FastPathInput::new(events.to_vec()).expect("input");
        let bytes = ironrdp_core::encode_vec(&input).expect("input");
        self.wire.tls.write_all(&bytes).expect("sent");
    }

    /// How many pixels differ from what `watch` shows by more than `by` in a colour.
    pub fn wrong(&self, watch: &Watch, by: u8) -> usize {
        if (self.result.size.width, self.result.size.height) != (watch.width, watch.height) {
            return usize::MAX;
        }
        let ours = watch.pixels.chunks_exact(4);
        let differ = |(ours, theirs): (&[u8], &[u8])| {
            [(0, 2), (1, 1), (2, 0)].iter().any(|(a, b)| ours[*a].abs_diff(theirs[*b]) > by)
        };
        ours.zip(self.image.data().chunks_exact(4)).filter(|pair| differ(*pair)).count()
    }

    /// Waits until it shows what `watch` shows.
    pub fn await_same(&mut self, watch: &mut Watch) {
        let start = Instant::now();
        while self.wrong(watch, 0) > 0 {
            let look = self.look(Duration::from_millis(20));
            if let Err(e) = look {
                std::thread::sleep(Duration::from_millis(300));
                let ended = watch.ended();
                panic!("{e}; told: {:?}; {ended:?}", watch.told);
            }
            watch.listen();
            assert!(start.elapsed() < super::PATIENCE, "{} pixels differ", self.wrong(watch, 0));
        }
    }
}

fn image(size: DesktopSize) -> DecodedImage {
    let format = ironrdp_graphics::image_processing::PixelFormat::RgbA32;
    DecodedImage::new(format, size.width, size.height)
}

/// Trusts one certificate.
#[derive(Debug)]
struct This(Vec<u8>);

impl ServerCertVerifier for This {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        assert_eq!(end_entity.as_ref(), self.0, "another certificate");
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
