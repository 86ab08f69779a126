//! The graphics pipeline ([MS-RDPEGFX]): one surface, copies within it, and tiles without loss (text
//! as bands, the rest planar), all of it packed. The client says which frame it has drawn, so that no
//! more than a few are under way and a slow line shows what is new.

use super::{
    bands::{Bands, Part},
    changes::Copy,
    link::Shared,
    stream::Flow,
    zgfx::Packer,
};
use ironrdp_core::{Encode, EncodeResult, WriteCursor, encode_vec};
use ironrdp_dvc::DvcEncode;
use ironrdp_egfx::{
    pdu::{
        CapabilitiesAdvertisePdu, CapabilitiesV8Flags, CapabilitySet, Codec1Type, CreateSurfacePdu,
        DeleteSurfacePdu, EndFramePdu, GfxPdu, MapSurfaceToOutputPdu, PixelFormat, Point,
        ResetGraphicsPdu, StartFramePdu, SurfaceToSurfacePdu, Timestamp, WireToSurface1Pdu,
    },
    server::{GraphicsPipelineHandler, GraphicsPipelineServer},
};
use ironrdp_graphics::rdp6::{BgrAChannels, BitmapStreamEncoder};
use ironrdp_pdu::geometry::ExclusiveRectangle;
use ironrdp_server::{
    EgfxServerMessage, GfxDvcBridge, GfxServerFactory, GfxServerHandle, ServerEvent,
    ServerEventSender,
};
use ironrdp_svc::ChannelFlags;
use nonstop_display::link::Rect;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};
use tokio::sync::mpsc::UnboundedSender;

/// Frames that a client may have under way, and what they may hold together: about what a line of
/// 10 Mbit/s holds in 100 ms. A larger frame waits until all before it are drawn, but for one.
const FRAMES: usize = 12;
const BYTES: u64 = 128 << 10;

const SURFACE: u16 = 1;

/// Bands that take more than a byte for so many pixels are worth less than runs.
const WORTH: usize = 3;

/// The pipeline of one client, shared by its parts.
pub(super) struct Pipeline {
    shared: Arc<Shared>,
    flow: Arc<Flow>,
    ready: AtomicBool,
    drawn: AtomicU32,
    /// The client does not say what it has drawn.
    mute: AtomicBool,
    way: Mutex<Option<(UnboundedSender<ServerEvent>, GfxServerHandle)>>,
    packer: Mutex<Packer>,
}

impl Pipeline {
    pub(super) fn new(shared: Arc<Shared>, flow: Arc<Flow>) -> Arc<Pipeline> {
        Arc::new(Pipeline {
            shared,
            flow,
            ready: AtomicBool::new(false),
            drawn: AtomicU32::new(0),
            mute: AtomicBool::new(false),
            way: Mutex::new(None),
            packer: Mutex::new(Packer::new()),
        })
    }

    /// Whether the client takes pictures this way.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Sends PDUs as one message; how long it was. A client without the channel gets none.
    fn send(&self, pdus: &[GfxPdu]) -> anyhow::Result<u64> {
        let mut bytes = Vec::new();
        for pdu in pdus {
            bytes.extend(encode_vec(pdu)?);
        }
        let mut packer = self.packer.lock().unwrap_or_else(PoisonError::into_inner);
        let message = Box::new(Message(packer.pack(&bytes)));
        drop(packer);
        let length = message.0.len() as u64;
        let way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((events, server)) = &*way else { anyhow::bail!("no pipeline") };
        let channel = server.lock().unwrap_or_else(PoisonError::into_inner).channel_id();
        let Some(channel) = channel else { anyhow::bail!("no channel") };
        let flags = ChannelFlags::SHOW_PROTOCOL;
        let messages = ironrdp_dvc::encode_dvc_messages(channel, vec![message], flags)?;
        self.flow.owe(length);
        events
            .send(ServerEvent::Egfx(EgfxServerMessage::SendMessages { messages }))
            .map_err(|_| anyhow::anyhow!("the client is gone"))?;
        Ok(length)
    }
}

/// Bytes that are a message already.
struct Message(Vec<u8>);

impl Encode for Message {
    fn encode(&self, dst: &mut WriteCursor<'_>) -> EncodeResult<()> {
        ironrdp_core::ensure_size!(in: dst, size: self.0.len());
        dst.write_slice(&self.0);
        Ok(())
    }

    fn name(&self) -> &'static str {
        "graphics"
    }

    fn size(&self) -> usize {
        self.0.len()
    }
}

impl DvcEncode for Message {}

/// Makes the pipeline for a client's connection.
pub(super) struct Factory {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) events: Option<UnboundedSender<ServerEvent>>,
}

impl ServerEventSender for Factory {
    fn set_sender(&mut self, sender: UnboundedSender<ServerEvent>) {
        self.events = Some(sender);
    }
}

impl GfxServerFactory for Factory {
    fn build_gfx_handler(&self) -> Box<dyn GraphicsPipelineHandler> {
        Box::new(Heard(Arc::downgrade(&self.pipeline)))
    }

    fn build_server_with_handle(&self) -> Option<(GfxDvcBridge, GfxServerHandle)> {
        let server = Arc::new(Mutex::new(GraphicsPipelineServer::new(self.build_gfx_handler())));
        let way = (self.events.clone()?, Arc::clone(&server));
        *self.pipeline.way.lock().unwrap_or_else(PoisonError::into_inner) = Some(way);
        Some((GfxDvcBridge::new(Arc::clone(&server)), server))
    }
}

/// What a client says of the pipeline, which itself holds whoever hears this.
struct Heard(Weak<Pipeline>);

impl GraphicsPipelineHandler for Heard {
    fn capabilities_advertise(&mut self, _: &CapabilitiesAdvertisePdu) {}

    fn on_ready(&mut self, _: &CapabilitySet) {
        let Some(pipeline) = self.0.upgrade() else { return };
        pipeline.ready.store(true, Ordering::Release);
        pipeline.shared.changed.notify_waiters();
    }

    fn on_frame_ack(&mut self, frame: u32, queue: u32, _: u32) {
        let Some(pipeline) = self.0.upgrade() else { return };
        pipeline.drawn.fetch_max(frame, Ordering::Relaxed);
        pipeline.mute.store(queue == u32::MAX, Ordering::Relaxed);
        pipeline.shared.changed.notify_waiters();
    }

    /// Whoever knows the pipeline knows its first version, which has all that is needed here.
    fn preferred_capabilities(&self) -> Vec<CapabilitySet> {
        vec![CapabilitySet::V8 { flags: CapabilitiesV8Flags::empty() }]
    }
}

/// The pictures of one client.
pub(super) struct Pictures {
    pipeline: Arc<Pipeline>,
    copy: Copy,
    bands: Bands,
    frame: u32,
    /// The first frame since the client's screen was made anew.
    renewed: u32,
    /// Frames that the client has not drawn, and how long each was.
    under_way: VecDeque<(u32, u64)>,
    packed: Vec<u8>,
}

impl Pictures {
    pub(super) fn new(pipeline: Arc<Pipeline>) -> Pictures {
        let (copy, bands) = (Copy::default(), Bands::new());
        let (under_way, packed) = (VecDeque::new(), Vec::new());
        Pictures { pipeline, copy, bands, frame: 0, renewed: 0, under_way, packed }
    }

    /// Whether the client has drawn enough to be sent more. What it says of that may be untrue;
    /// hence no more than one frame ever waits here.
    pub(super) fn may_send(&mut self) -> bool {
        if !self.pipeline.flow.is_clear() {
            return false;
        }
        let drawn = self.pipeline.drawn.load(Ordering::Relaxed);
        while self.under_way.front().is_some_and(|(frame, _)| *frame <= drawn) {
            self.under_way.pop_front();
        }
        let bytes: u64 = self.under_way.iter().map(|(_, bytes)| bytes).sum();
        self.pipeline.mute.load(Ordering::Relaxed)
            || self.under_way.len() < 2
            || (self.under_way.len() < FRAMES && bytes < BYTES)
    }

    /// Makes the client's screen black and of this size; does nothing if it has that size.
    pub(super) fn resize(&mut self, width: u16, height: u16) -> anyhow::Result<bool> {
        if (self.copy.width, self.copy.height) == (width, height) {
            return Ok(false);
        }
        let mut pdus = Vec::new();
        if self.copy.width > 0 {
            pdus.push(GfxPdu::DeleteSurface(DeleteSurfacePdu { surface_id: SURFACE }));
        }
        pdus.push(GfxPdu::ResetGraphics(ResetGraphicsPdu {
            width: width.into(),
            height: height.into(),
            monitors: Vec::new(),
        }));
        pdus.push(GfxPdu::CreateSurface(CreateSurfacePdu {
            surface_id: SURFACE,
            width,
            height,
            pixel_format: PixelFormat::XRgb,
        }));
        pdus.push(GfxPdu::MapSurfaceToOutput(MapSurfaceToOutputPdu {
            surface_id: SURFACE,
            output_origin_x: 0,
            output_origin_y: 0,
        }));
        self.pipeline.send(&pdus)?;
        self.copy = Copy::new(width, height);
        self.renewed = self.frame + 1;
        Ok(true)
    }

    /// Whether the client has drawn on the screen that it last made anew. Until then nothing may come
    /// to it by another way: FreeRDP 3.10 makes its screen beside the thread that draws pointers, and
    /// dies of one that comes in between.
    pub(super) fn is_settled(&self) -> bool {
        self.pipeline.mute.load(Ordering::Relaxed)
            || self.pipeline.drawn.load(Ordering::Relaxed) >= self.renewed
    }

    /// Sends what is new in `parts`, each with its pixels, as one frame; false if nothing is.
    pub(super) fn show(&mut self, parts: &[(Rect, Vec<u8>)], all: bool) -> anyhow::Result<bool> {
        let mut pdus = Vec::new();
        for (rect, pixels) in parts {
            if !all && let Some(moved) = self.copy.moved(*rect, pixels) {
                let from = Rect { y: moved.from, height: moved.height, ..*rect };
                self.copy.move_rows(*rect, moved);
                pdus.push(GfxPdu::SurfaceToSurface(SurfaceToSurfacePdu {
                    source_surface_id: SURFACE,
                    destination_surface_id: SURFACE,
                    source_rectangle: exclusive(from),
                    destination_points: vec![Point { x: rect.x, y: moved.to }],
                }));
            }
            for tile in self.copy.take(*rect, pixels, all) {
                pdus.push(self.tile(tile)?);
            }
        }
        if pdus.is_empty() {
            return Ok(false);
        }
        self.frame += 1;
        let frame_id = self.frame;
        let timestamp = Timestamp { milliseconds: 0, seconds: 0, minutes: 0, hours: 0 };
        pdus.insert(0, GfxPdu::StartFrame(StartFramePdu { timestamp, frame_id }));
        pdus.push(GfxPdu::EndFrame(EndFramePdu { frame_id }));
        let bytes = self.pipeline.send(&pdus)?;
        if self.under_way.len() < FRAMES {
            self.under_way.push_back((frame_id, bytes));
        }
        Ok(true)
    }

    /// A part of the picture: as bands if it looks like text, else planar.
    fn tile(&mut self, rect: Rect) -> anyhow::Result<GfxPdu> {
        let pixels = self.copy.pixels(rect);
        let part = Part { top: rect.y.into(), width: rect.width.into(), pixels: &pixels };
        let area = usize::from(rect.width) * usize::from(rect.height);
        if let Some(bitmap_data) = self.bands.encode(&part, area / WORTH) {
            return Ok(wire(rect, Codec1Type::ClearCodec, bitmap_data));
        }
        // Runs may make noise longer than it was.
        self.packed.resize(pixels.len() * 2 + 64, 0);
        let mut encoder = BitmapStreamEncoder::new(rect.width.into(), rect.height.into());
        let length = encoder.encode_bitmap::<BgrAChannels>(&pixels, &mut self.packed, true)?;
        Ok(wire(rect, Codec1Type::Planar, self.packed[..length].to_vec()))
    }
}

fn wire(rect: Rect, codec_id: Codec1Type, bitmap_data: Vec<u8>) -> GfxPdu {
    GfxPdu::WireToSurface1(WireToSurface1Pdu {
        surface_id: SURFACE,
        codec_id,
        pixel_format: PixelFormat::XRgb,
        destination_rectangle: exclusive(rect),
        bitmap_data,
    })
}

fn exclusive(rect: Rect) -> ExclusiveRectangle {
    ExclusiveRectangle {
        left: rect.x,
        top: rect.y,
        right: rect.x + rect.width,
        bottom: rect.y + rect.height,
    }
}
