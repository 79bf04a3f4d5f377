//! Any of our messages and services as a type that r2r carries.
//!
//! r2r offers servers and clients for Rust types that stand for the C structures of rosidl. Ours stand for the *encoded*
//! message: [`Sample`] is CDR, and the rmw translates between it and the C structure, so that what crosses into a node
//! is always read by our own strict codec. The C structures, their type support and their names are found in the
//! libraries of the ROS 2 in which the process runs, by the type's name; nothing of them is compiled in.

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_void},
    fmt::Debug,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use r2r::{WrappedServiceTypeSupport, WrappedTypesupport};
use r2r_rcl::{
    RCL_RET_OK, rcl_serialized_message_t, rcutils_get_default_allocator, rcutils_get_error_string,
    rcutils_reset_error, rcutils_uint8_array_fini, rcutils_uint8_array_init, rmw_deserialize, rmw_serialize,
    rosidl_message_type_support_t, rosidl_service_type_support_t,
};
use spikewing_msgs::{Message, Service, cdr};

use super::{
    layout,
    symbols::{split, symbol},
};
use crate::local::panic_message;

/// A C structure of rosidl, seen from outside.
#[repr(C)]
pub struct Native {
    opaque: [u8; 0],
}

type Create = unsafe extern "C" fn() -> *mut Native;
type Destroy = unsafe extern "C" fn(*mut Native);

/// What rosidl's libraries know of one message type.
#[derive(Clone, Copy)]
pub struct MessageSupport {
    handle: &'static rosidl_message_type_support_t,
    create: Create,
    destroy: Destroy,
}

// SAFETY: rosidl's type supports are static data that nobody changes, and its functions may be called from any thread.
unsafe impl Send for MessageSupport {}

// Types are looked up by their names once; what is found stays loaded for the life of the process.
static MESSAGES: Mutex<BTreeMap<&'static str, Result<MessageSupport, String>>> = Mutex::new(BTreeMap::new());

/// The support of a message type, e.g. `std_srvs/srv/Trigger_Request`.
///
/// # Errors
/// When the type's package isn't in the ROS 2 that is sourced; says which symbol of which library is missing.
pub fn message(ros_type: &'static str) -> Result<MessageSupport, String> {
    let mut known = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(ros_type).or_insert_with(|| find_message(ros_type)).clone()
}

fn find_message(ros_type: &str) -> Result<MessageSupport, String> {
    let (package, part, name) = split(ros_type)?;
    let getter = symbol(
        package,
        "typesupport_c",
        &format!("rosidl_typesupport_c__get_message_type_support_handle__{package}__{part}__{name}"),
    )?;
    let create = symbol(package, "generator_c", &format!("{package}__{part}__{name}__create"))?;
    let destroy = symbol(package, "generator_c", &format!("{package}__{part}__{name}__destroy"))?;
    // SAFETY: rosidl generates these functions for every message, under these names and with these signatures; the
    // handle lies in static storage of a library that is never unloaded.
    unsafe {
        let getter: unsafe extern "C" fn() -> *const rosidl_message_type_support_t =
            std::mem::transmute(getter.as_ptr());
        let handle = getter().as_ref().ok_or_else(|| format!("{ros_type}: no type support"))?;
        Ok(MessageSupport {
            handle,
            create: std::mem::transmute::<*mut c_void, Create>(create.as_ptr()),
            destroy: std::mem::transmute::<*mut c_void, Destroy>(destroy.as_ptr()),
        })
    }
}

/// The support of a service type, e.g. `std_srvs/srv/Trigger`.
///
/// # Errors
/// As [`message`].
pub fn service(ros_type: &str) -> Result<&'static rosidl_service_type_support_t, String> {
    let (package, part, name) = split(ros_type)?;
    let getter = symbol(
        package,
        "typesupport_c",
        &format!("rosidl_typesupport_c__get_service_type_support_handle__{package}__{part}__{name}"),
    )?;
    // SAFETY: as in `find_message`.
    unsafe {
        let getter: unsafe extern "C" fn() -> *const rosidl_service_type_support_t =
            std::mem::transmute(getter.as_ptr());
        getter().as_ref().ok_or_else(|| format!("{ros_type}: no type support"))
    }
}

/// The rmw's own words for its last failure.
fn last_error(code: i32) -> String {
    // SAFETY: the error state is the thread's own, and its text ends with a zero.
    unsafe {
        let state = rcutils_get_error_string();
        rcutils_reset_error();
        let text = CStr::from_ptr(state.str_.as_ptr().cast()).to_string_lossy().into_owned();
        format!("{text} (code {code})")
    }
}

impl MessageSupport {
    /// CDR of a C structure, in a buffer that may be longer: Fast DDS tells the length it reckoned with beforehand, not
    /// the one it needed.
    fn serialize(&self, native: *const Native) -> Result<Vec<u8>, String> {
        // SAFETY: the structure is of this support's type, and the buffer is initialised, used and freed here alone.
        unsafe {
            let allocator = rcutils_get_default_allocator();
            let mut buffer = r2r_rcl::rcutils_get_zero_initialized_uint8_array();
            let code = rcutils_uint8_array_init(&raw mut buffer, 0, &raw const allocator);
            if code != RCL_RET_OK as i32 {
                return Err(last_error(code));
            }
            let code = rmw_serialize(native.cast(), self.handle, &raw mut buffer);
            let result = if code != RCL_RET_OK as i32 {
                Err(last_error(code))
            } else if buffer.buffer.is_null() {
                Ok(Vec::new())
            } else {
                Ok(std::slice::from_raw_parts(buffer.buffer, buffer.buffer_length).to_vec())
            };
            rcutils_uint8_array_fini(&raw mut buffer);
            result
        }
    }

    /// Fills a C structure from CDR.
    fn deserialize(&self, bytes: &[u8], native: *mut Native) -> Result<(), String> {
        // SAFETY: the structure is of this support's type; the rmw only reads the buffer.
        unsafe {
            let buffer = rcl_serialized_message_t {
                buffer: bytes.as_ptr().cast_mut(),
                buffer_length: bytes.len(),
                buffer_capacity: bytes.len(),
                allocator: rcutils_get_default_allocator(),
            };
            match rmw_deserialize(&raw const buffer, self.handle, native.cast()) {
                code if code == RCL_RET_OK as i32 => Ok(()),
                code => Err(last_error(code)),
            }
        }
    }

    /// A C structure for as long as `use_it` takes.
    fn with<T>(&self, use_it: impl FnOnce(*mut Native) -> Result<T, String>) -> Result<T, String> {
        // SAFETY: rosidl's own pair of functions.
        let native = unsafe { (self.create)() };
        if native.is_null() {
            return Err("out of memory".into());
        }
        let result = use_it(native);
        // SAFETY: as above; a structure that was filled in part only is valid too.
        unsafe { (self.destroy)(native) };
        result
    }

    /// Whether the rmw can read these bytes. What it cannot read must not be sent: r2r has no way to say so later.
    ///
    /// # Errors
    /// The rmw's words.
    pub fn accepts(&self, bytes: &[u8]) -> Result<(), String> {
        self.with(|native| self.deserialize(bytes, native))
    }
}

/// Compares the installed definition of a message with ours.
///
/// # Errors
/// When the type isn't installed, or the first difference.
pub fn agrees<M: Message>() -> Result<(), String> {
    layout::compare(&layout::installed(M::TYPE)?, M::LAYOUT).map_err(|e| format!("{}: {e}", M::TYPE))
}

/// A message of type `M`, encoded. The error is why the rmw could not encode what arrived.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(bound = "")]
pub struct Sample<M> {
    /// CDR with its header.
    pub cdr: Result<Vec<u8>, String>,
    message: PhantomData<M>,
}

impl<M> Sample<M> {
    /// From CDR with its header.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { cdr: Ok(bytes), message: PhantomData }
    }
}

impl<M> Default for Sample<M> {
    fn default() -> Self {
        Self { cdr: Err("nothing was received".into()), message: PhantomData }
    }
}

/// The support of a type that [`Adapter::ready`] has found before: r2r asks without a way to answer "there is none".
#[allow(clippy::expect_used)]
fn found<M: Message>() -> MessageSupport {
    message(M::TYPE).expect("a type is looked up before it is handed to r2r")
}

impl<M: Message> WrappedTypesupport for Sample<M> {
    type CStruct = Native;

    fn get_ts() -> &'static rosidl_message_type_support_t {
        found::<M>().handle
    }

    fn create_msg() -> *mut Native {
        // SAFETY: rosidl's own constructor.
        unsafe { (found::<M>().create)() }
    }

    fn destroy_msg(native: *mut Native) {
        // SAFETY: r2r hands back what `create_msg` gave, once.
        unsafe { (found::<M>().destroy)(native) }
    }

    fn from_native(native: &Native) -> Self {
        // rcl's thread calls this; a panic there would make the node deaf.
        let encode = || {
            let mut bytes = found::<M>().serialize(native)?;
            let length = cdr::length::<M>(&bytes).map_err(|e| e.to_string())?;
            bytes.truncate(length);
            Ok(bytes)
        };
        let cdr =
            catch_unwind(AssertUnwindSafe(encode)).unwrap_or_else(|panic| Err(panic_message(panic.as_ref())));
        Self { cdr, message: PhantomData }
    }

    fn copy_to_native(&self, native: &mut Native) {
        // Senders ask `accepts` first, so that this cannot fail; the structure keeps its defaults if it does.
        if let Ok(bytes) = &self.cdr
            && let Err(reason) = found::<M>().deserialize(bytes, native)
        {
            tracing::error!("{}: {reason}", M::TYPE);
        }
    }
}

/// A service of ours as r2r wants it.
#[derive(Clone, Debug)]
pub struct Adapter<S>(PhantomData<S>);

impl<S: Service> Adapter<S> {
    /// Looks the service and its two messages up.
    ///
    /// # Errors
    /// When the sourced ROS 2 lacks one of them.
    pub fn ready() -> Result<(), String> {
        message(S::Request::TYPE)?;
        message(S::Response::TYPE)?;
        service(S::SERVICE_TYPE)?;
        Ok(())
    }
}

impl<S: Service + Clone + Debug> WrappedServiceTypeSupport for Adapter<S> {
    type Request = Sample<S::Request>;
    type Response = Sample<S::Response>;

    #[allow(clippy::expect_used)]
    fn get_ts() -> &'static rosidl_service_type_support_t {
        service(S::SERVICE_TYPE).expect("a type is looked up before it is handed to r2r")
    }
}
