//! Finds what rosidl generated for a type, by the type's name.

use std::{
    ffi::{CString, c_void},
    ptr::NonNull,
};

/// `pkg/srv/Name` in its parts.
pub fn split(ros_type: &str) -> Result<(&str, &str, &str), String> {
    let mut parts = ros_type.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(package), Some(part), Some(name), None) => Ok((package, part, name)),
        _ => Err(format!("{ros_type} is no ROS type of the form package/srv/Name")),
    }
}

/// A function of a package's library. r2r links the packages that it was built with; others are loaded now.
pub fn symbol(package: &str, library: &str, name: &str) -> Result<NonNull<c_void>, String> {
    let file = format!("lib{package}__rosidl_{library}.so");
    let c_string = |text: &str| CString::new(text).map_err(|e| format!("{text:?}: {e}"));
    let (c_name, c_file) = (c_string(name)?, c_string(&file)?);
    // SAFETY: both strings end with a zero; loading a library of rosidl runs no code but its own initialisers.
    let found = unsafe {
        let linked = libc::dlsym(libc::RTLD_DEFAULT, c_name.as_ptr());
        if linked.is_null() {
            let handle = libc::dlopen(c_file.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL);
            if handle.is_null() {
                return Err(format!(
                    "no {file}; is the package {package} installed and its setup file sourced?"
                ));
            }
            libc::dlsym(handle, c_name.as_ptr())
        } else {
            linked
        }
    };
    NonNull::new(found).ok_or_else(|| format!("{file} has no {name}; is {package} an older version?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_three_parts() {
        assert_eq!(split("std_srvs/srv/Trigger").unwrap(), ("std_srvs", "srv", "Trigger"));
        for wrong in ["Trigger", "std_srvs/Trigger", "a/b/c/d"] {
            assert!(split(wrong).unwrap_err().contains("package/srv/Name"), "{wrong}");
        }
    }

    #[test]
    fn a_package_that_is_not_there_is_named() {
        let error = symbol("nobody_msgs", "typesupport_c", "nobody_msgs__srv__Nothing").unwrap_err();
        assert!(error.contains("libnobody_msgs__rosidl_typesupport_c.so"), "{error}");
        assert!(symbol("zero\0", "typesupport_c", "x").is_err());
    }

    #[test]
    fn what_is_linked_already_is_found_without_loading() {
        // Any function of the C library will do: the package of that name has no library.
        assert!(symbol("nobody_msgs", "typesupport_c", "strlen").is_ok());
    }
}
