//! Names of nodes, namespaces and topics, and what ROS 2 demands of them.

/// Longest node name (rmw).
const LONGEST_NAME: usize = 255;
/// Longest namespace (rmw).
const LONGEST_NAMESPACE: usize = 245;

/// A part of a name between slashes.
///
/// # Errors
/// Says what is wrong with it.
pub fn token(token: &str) -> Result<(), String> {
    match token.chars().next() {
        None => return Err("a name between two slashes is empty".to_owned()),
        Some(c) if c.is_ascii_digit() => {
            return Err(format!("`{token}` must not begin with a digit"));
        }
        Some(_) => {}
    }
    match token.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '_')) {
        Some(c) => Err(format!("`{token}` must have letters, digits and `_` only, not `{c}`")),
        None => Ok(()),
    }
}

/// The name of a node, e.g. `supervisor`.
///
/// # Errors
/// Says what is wrong with it.
pub fn node(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a node's name must not be empty".to_owned());
    }
    if name.len() > LONGEST_NAME {
        return Err(format!("a node's name must not be longer than {LONGEST_NAME} characters"));
    }
    token(name)
}

/// A namespace, e.g. `/` or `/drone_0`.
///
/// # Errors
/// Says what is wrong with it.
pub fn namespace(namespace: &str) -> Result<(), String> {
    if namespace == "/" {
        return Ok(());
    }
    let Some(relative) = namespace.strip_prefix('/') else {
        return Err(format!("`{namespace}` must begin with a slash: /{namespace}"));
    };
    if namespace.len() > LONGEST_NAMESPACE {
        return Err(format!("a namespace must not be longer than {LONGEST_NAMESPACE} characters"));
    }
    if relative.ends_with('/') {
        return Err(format!("`{namespace}` must not end with a slash"));
    }
    relative.split('/').try_for_each(token)
}

/// The name of a topic or service as a remapping has it: absolute, relative or private (`~/x`).
///
/// # Errors
/// Says what is wrong with it.
pub fn topic(name: &str) -> Result<(), String> {
    let rest = name.strip_prefix("~/").or_else(|| name.strip_prefix('/')).unwrap_or(name);
    rest.split('/').try_for_each(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_rmw_does() {
        for good in ["supervisor", "a1", "_a", "A"] {
            assert!(node(good).is_ok(), "{good}");
        }
        for bad in ["", "drone-1", "1a", "a b", "a/b", "ä", &"a".repeat(256)] {
            assert!(node(bad).is_err(), "{bad}");
        }
        for good in ["/", "/drone_0", "/a/b_c"] {
            assert!(namespace(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "/a/", "//a", "/1a", "/a-b", "/a//b"] {
            assert!(namespace(bad).is_err(), "{bad}");
        }
        for good in ["a", "/a", "~/a", "a/b", "/a/b"] {
            assert!(topic(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a-b", "a//b", "a/", "~a", "a b"] {
            assert!(topic(bad).is_err(), "{bad}");
        }
    }
}
