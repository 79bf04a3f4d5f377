//! Whether an installed message is the one that this program was built for, leaf by leaf.
//!
//! Over r2r the middleware reads and writes by the *installed* definition. Where that is another one (a `px4_msgs` of
//! another PX4 release, say) its bytes are read as something else, or not at all, and nobody says so.

use std::{
    ffi::{c_char, c_void},
    slice,
};

use super::symbols::{split, symbol};

/// A leaf of a message: its path, its type.
pub type Leaf<'a> = (&'a str, &'a str);

/// The leaves of an installed type.
///
/// # Errors
/// When its package isn't in the ROS 2 that is sourced, or is older than type descriptions are (before Iron).
pub fn installed(ros_type: &str) -> Result<Vec<(String, String)>, String> {
    let (package, part, name) = split(ros_type)?;
    let getter = symbol(package, "generator_c", &format!("{package}__{part}__{name}__get_type_description"))?;
    // SAFETY: rosidl generates this function for every message under this name; it ignores its argument and gives
    // static data, valid as long as the library is loaded, which is for ever.
    let description = unsafe {
        let getter: unsafe extern "C" fn(*const c_void) -> *const TypeDescription =
            std::mem::transmute(getter.as_ptr());
        getter(std::ptr::null()).as_ref()
    };
    let description = description.ok_or_else(|| format!("{ros_type}: no description"))?;
    let mut leaves = Vec::new();
    flatten(description, &description.of, "", 0, &mut leaves)?;
    Ok(leaves)
}

/// Compares the leaves of an installed type with ours.
///
/// # Errors
/// The first difference, in words.
pub fn compare(installed: &[(String, String)], ours: &[Leaf<'_>]) -> Result<(), String> {
    for index in 0..installed.len().max(ours.len()) {
        match (installed.get(index), ours.get(index)) {
            (Some((path, kind)), Some((our_path, our_kind))) if path == our_path && kind == our_kind => {}
            (Some((path, kind)), Some((our_path, our_kind))) => {
                return Err(format!(
                    "`{kind} {path}` is installed where `{our_kind} {our_path}` is expected"
                ));
            }
            (Some((path, kind)), None) => {
                return Err(format!("`{kind} {path}` is installed and not expected"));
            }
            (None, Some((our_path, our_kind))) => return Err(format!("`{our_kind} {our_path}` is missing")),
            (None, None) => {}
        }
    }
    Ok(())
}

/// Deeper nesting than any message has: a description that refers to itself.
const DEEPEST: usize = 16;

fn flatten(
    whole: &TypeDescription,
    one: &IndividualTypeDescription,
    prefix: &str,
    depth: usize,
    leaves: &mut Vec<(String, String)>,
) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("{}: nested too deeply", one.type_name.read()));
    }
    for field in one.fields.read() {
        let path = format!("{prefix}{}", field.name.read());
        let (element, suffix) = shape(&field.kind);
        if element != NESTED {
            let kind =
                word(element).ok_or_else(|| format!("{path}: a type that we do not know ({element})"))?;
            leaves.push((path, format!("{kind}{suffix}")));
            continue;
        }
        let wanted = field.kind.nested_type_name.read();
        let nested = whole
            .referenced
            .read()
            .iter()
            .find(|t| t.type_name.read() == wanted)
            .ok_or_else(|| format!("{path}: {wanted} is not described"))?;
        flatten(whole, nested, &format!("{path}{suffix}."), depth + 1, leaves)?;
    }
    Ok(())
}

/// `type_description_interfaces/msg/FieldType`: what an element is, and whether there are several.
const NESTED: u8 = 1;
const KINDS: u8 = 48;

fn shape(kind: &FieldType) -> (u8, String) {
    match kind.type_id / KINDS {
        0 => (kind.type_id, String::new()),
        1 => (kind.type_id % KINDS, format!("[{}]", kind.capacity)),
        // Bounded or not: the same on the wire.
        _ => (kind.type_id % KINDS, "[]".to_owned()),
    }
}

fn word(type_id: u8) -> Option<&'static str> {
    Some(match type_id {
        2 => "int8",
        // uint8, char, byte: one octet each.
        3 | 13 | 16 => "uint8",
        4 => "int16",
        5 => "uint16",
        6 => "int32",
        7 => "uint32",
        8 => "int64",
        9 => "uint64",
        10 => "float32",
        11 => "float64",
        15 => "bool",
        17 | 21 => "string",
        _ => return None,
    })
}

/// `rosidl_runtime_c__String`.
#[repr(C)]
struct Text {
    data: *const c_char,
    size: usize,
    capacity: usize,
}

impl Text {
    fn read(&self) -> &str {
        if self.data.is_null() {
            return "";
        }
        // SAFETY: rosidl's static data holds `size` bytes at `data`.
        let bytes = unsafe { slice::from_raw_parts(self.data.cast::<u8>(), self.size) };
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// A sequence of rosidl's C structures.
#[repr(C)]
struct Sequence<T> {
    data: *const T,
    size: usize,
    capacity: usize,
}

impl<T> Sequence<T> {
    fn read(&self) -> &[T] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: rosidl's static data holds `size` elements at `data`.
        unsafe { slice::from_raw_parts(self.data, self.size) }
    }
}

/// `type_description_interfaces__msg__FieldType`.
#[repr(C)]
struct FieldType {
    type_id: u8,
    capacity: u64,
    string_capacity: u64,
    nested_type_name: Text,
}

#[repr(C)]
struct Field {
    name: Text,
    kind: FieldType,
    default_value: Text,
}

#[repr(C)]
struct IndividualTypeDescription {
    type_name: Text,
    fields: Sequence<Field>,
}

#[repr(C)]
struct TypeDescription {
    of: IndividualTypeDescription,
    referenced: Sequence<IndividualTypeDescription>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_told() {
        let installed = |leaves: &[Leaf<'_>]| {
            leaves.iter().map(|(path, kind)| ((*path).to_owned(), (*kind).to_owned())).collect::<Vec<_>>()
        };
        let ours = [("timestamp", "uint64"), ("arming_state", "uint8")];
        assert_eq!(compare(&installed(&ours), &ours), Ok(()));
        let moved =
            installed(&[("timestamp", "uint64"), ("armed_time", "uint64"), ("arming_state", "uint8")]);
        let error = compare(&moved, &ours).unwrap_err();
        assert!(error.contains("uint64 armed_time") && error.contains("uint8 arming_state"), "{error}");
        let longer = installed(&[ours[0], ours[1], ("extra", "bool")]);
        assert!(compare(&longer, &ours).unwrap_err().contains("bool extra"));
        assert!(compare(&installed(&ours[..1]), &ours).unwrap_err().contains("arming_state` is missing"));
    }

    #[test]
    fn a_package_that_is_not_there_is_named() {
        assert!(installed("nobody_msgs/msg/Nothing").unwrap_err().contains("nobody_msgs"));
    }
}
