//! Foreign calls that the crate `virt` does not wrap: being told of a guest's life, and keeping
//! its memory.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_int, c_void},
    mem,
    os::unix::ffi::OsStrExt,
    path::Path,
};
use uuid::Uuid;
use virt::{connect::Connect, domain::Domain, error::Error, sys};

/// What libvirt says of a guest: a number of `virDomainEventType` and one of its details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawEvent {
    pub(super) name: String,
    pub(super) uuid: Uuid,
    pub(super) event: u32,
    pub(super) detail: u32,
}

/// Writes a guest's memory to `file` and ends the guest, whose processors stand still before.
///
/// In the format `raw`, whatever libvirt is configured to: QEMU then writes into a pipe, and the
/// head of the file stays libvirt's (libvirt 11.3).
pub(super) fn save(domain: &Domain, file: &Path) -> Result<(), Error> {
    let file = CString::new(file.as_os_str().as_bytes())?;
    let raw = sys::VIR_DOMAIN_SAVE_PARAM_IMAGE_FORMAT_RAW;
    let wanted = [
        (sys::VIR_DOMAIN_SAVE_PARAM_FILE, file.as_c_str()),
        (sys::VIR_DOMAIN_SAVE_PARAM_IMAGE_FORMAT, raw),
    ];
    let (mut params, mut count, mut room) = (std::ptr::null_mut(), 0, 0);
    let mut result = 0;
    for (name, value) in wanted {
        // SAFETY: the list begins empty, and libvirt, which owns it, grows it and copies both
        // texts; these end with a NUL and live as long as the call.
        let added = unsafe {
            sys::virTypedParamsAddString(
                &mut params,
                &mut count,
                &mut room,
                name.as_ptr(),
                value.as_ptr(),
            )
        };
        result = result.min(added);
    }
    if result == 0 {
        // SAFETY: `domain` is a reference that libvirt counts, held for the length of the call,
        // and so is the list, of `count` parameters.
        result = unsafe {
            let flags = sys::VIR_DOMAIN_SAVE_PAUSED;
            sys::virDomainSaveParams(domain.as_ptr(), params, count, flags)
        };
    }
    let failed = (result < 0).then(Error::last_error);
    // SAFETY: made by the calls above, and not used any more.
    unsafe { sys::virTypedParamsFree(params, count) };
    failed.map_or(Ok(()), Err)
}

type Listener = Box<dyn Fn(RawEvent) + Send + Sync>;

/// A listener for as long as it is held.
pub(super) struct Registration {
    connect: Connect,
    id: c_int,
}

/// Has `listener` called from the event loop's thread at every event in the life of any guest.
pub(super) fn listen(connect: &Connect, listener: Listener) -> Result<Registration, Error> {
    let opaque = Box::into_raw(Box::new(listener));
    // SAFETY: for this event id libvirt calls the callback with the arguments of
    // `virConnectDomainEventCallback`, whatever the type says; that cast is its documented use.
    let callback: unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void) = unsafe {
        mem::transmute::<
            unsafe extern "C" fn(
                sys::virConnectPtr,
                sys::virDomainPtr,
                c_int,
                c_int,
                *mut c_void,
            ) -> c_int,
            _,
        >(lifecycle)
    };
    // SAFETY: `connect` is open while borrowed; a null domain means any; `opaque` stays valid
    // until libvirt calls `forget`, which it does once, when the callback is deregistered.
    let id = unsafe {
        sys::virConnectDomainEventRegisterAny(
            connect.as_ptr(),
            std::ptr::null_mut(),
            sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int,
            Some(callback),
            opaque.cast(),
            Some(forget),
        )
    };
    if id < 0 {
        let error = Error::last_error();
        // SAFETY: a refused registration leaves `opaque` to its caller.
        drop(unsafe { Box::from_raw(opaque) });
        return Err(error);
    }
    Ok(Registration { connect: connect.clone(), id })
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: the connection is held by `self`, and `id` was given for it. On a connection
        // that is dead the call fails after it has forgotten the callback, which is all we want.
        unsafe { sys::virConnectDomainEventDeregisterAny(self.connect.as_ptr(), self.id) };
    }
}

unsafe extern "C" fn lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    let mut bytes = [0u8; 16];
    // SAFETY: libvirt owns `domain` and keeps it while this runs; the name it returns lives as
    // long; a UUID has 16 bytes; `opaque` is the listener that `listen` boxed.
    let (name, known, listener) = unsafe {
        let name = sys::virDomainGetName(domain);
        if name.is_null() {
            return 0;
        }
        let known = sys::virDomainGetUUID(domain, bytes.as_mut_ptr()) == 0;
        (CStr::from_ptr(name), known, &*opaque.cast::<Listener>())
    };
    if known && let (Ok(event), Ok(detail)) = (event.try_into(), detail.try_into()) {
        let name = name.to_string_lossy().into_owned();
        listener(RawEvent { name, uuid: Uuid::from_bytes(bytes), event, detail });
    }
    0
}

unsafe extern "C" fn forget(opaque: *mut c_void) {
    // SAFETY: `opaque` came from `Box::into_raw` in `listen`, and libvirt calls this once.
    drop(unsafe { Box::from_raw(opaque.cast::<Listener>()) });
}
