//! Who may call without a key: a program on this machine, no proxy, and no web page that a browser shows.
//!
//! A page can make a browser call `http://127.0.0.1:8080`: across sites (it then sends its `Origin`) or
//! by DNS rebinding (it then sends its own name as `Host`). Both headers must name this machine.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::ApiError;

/// Checks `Host` (or HTTP/2's authority): it must name this machine.
///
/// # Errors
/// 403 `host_forbidden`.
pub fn check_host(headers: &HeaderMap, authority: Option<&str>) -> Result<(), ApiError> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, _) => authority,
        (Some(_), Some(_)) => None,
    };
    let agrees = authority.is_none_or(is_loopback_authority);
    if agrees && host.is_some_and(is_loopback_authority) {
        return Ok(());
    }
    Err(ApiError::Forbidden {
        code: "host_forbidden",
        message: "without an API key, call this server as localhost, 127.0.0.1 or [::1]".to_owned(),
    })
}

/// Refuses what a proxy passed on: its peer is the proxy, and who called may be anybody. A proxy that
/// adds none of these headers cannot be told from a program on this machine, which is what
/// `--require-key` is for.
///
/// # Errors
/// 401 `invalid_api_key`.
pub fn check_direct(headers: &HeaderMap) -> Result<(), ApiError> {
    let tells = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("x-forwarded-") || ["forwarded", "via", "x-real-ip"].contains(&name)
    };
    if headers.keys().any(tells) {
        return Err(ApiError::Unauthorised("what comes through a proxy needs an API key"));
    }
    Ok(())
}

/// Checks `Origin`, if there is one: it must be a page that this machine serves, or one of `others`.
///
/// # Errors
/// 403 `origin_forbidden`.
pub fn check_origin(headers: &HeaderMap, others: &[HeaderValue]) -> Result<(), ApiError> {
    let of_this_machine = |origin: &str| {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.is_some_and(is_loopback_authority)
    };
    let allowed = |origin: &HeaderValue| {
        others.contains(origin) || origin.to_str().is_ok_and(of_this_machine)
    };
    if headers.get_all(ORIGIN).iter().all(allowed) {
        return Ok(());
    }
    Err(ApiError::Forbidden {
        code: "origin_forbidden",
        message: "a web page of another site may not call this server without an API key"
            .to_owned(),
    })
}

/// Whether `authority` is `localhost`, `127.0.0.1` or `[::1]`, with or without a port.
pub fn is_loopback_authority(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => return address == "::1",
        Some((address, rest)) => {
            let Some(port) = rest.strip_prefix(':') else { return false };
            (if address == "::1" { "localhost" } else { "" }, Some(port))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let named = host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1";
    let numbered =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    named && port.is_none_or(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_names_pass_as_host() {
        for host in
            ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:65535"]
        {
            assert!(is_loopback_authority(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.2",
            "localhost:",
            "localhost:x",
            "localhost:65536",
            "localhost:+1",
            "[::2]:1",
            "[::1",
            "[::1]x",
            "user@localhost",
            "localhost@evil.example",
            "0.0.0.0",
            "localhost:80:80",
            "localhost/x",
            "2130706433",
            "0x7f.1",
            "[::ffff:127.0.0.1]",
            "localhost\\evil",
        ] {
            assert!(!is_loopback_authority(host), "{host}");
        }
    }

    #[test]
    fn an_origin_of_another_site_is_refused_and_none_is_fine() {
        let with = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            check_origin(&headers, &[]).is_ok()
        };
        assert!(check_origin(&HeaderMap::new(), &[]).is_ok());
        assert!(with("http://localhost:3000") && with("https://127.0.0.1"));
        for origin in ["null", "https://evil.example", "http://localhost.evil.example", "file://"] {
            assert!(!with(origin), "{origin}");
        }
    }

    #[test]
    fn two_hosts_or_an_authority_that_disagrees_are_refused() {
        let mut headers = HeaderMap::new();
        assert!(check_host(&headers, None).is_err());
        assert!(check_host(&headers, Some("localhost:1")).is_ok());
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert!(check_host(&headers, None).is_ok());
        assert!(check_host(&headers, Some("evil.example")).is_err());
        headers.append(HOST, HeaderValue::from_static("evil.example"));
        assert!(check_host(&headers, None).is_err());
    }
}
