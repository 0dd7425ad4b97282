//! The proxy that a server is reached by: of the environment, as curl(1) takes it.

use ipnet::IpNet;
use ureq::{Proxy, ProxyProtocol};

use crate::host::{Scheme, Url};

/// A proxy, and where it is named.
#[derive(Debug, Clone)]
pub(super) struct Through {
    pub(super) proxy: Proxy,
    pub(super) variable: &'static str,
}

/// Why there is a proxy that cannot be used. Its user and password are not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadProxy {
    #[error("the proxy that `{0}` names is no `http://[USER:PASSWORD@]HOST[:PORT]`")]
    NoUrl(&'static str),
    #[error(
        "`{variable}` names a SOCKS proxy ({proxy}), and nkudo speaks only to HTTP proxies; name one, or \
         get the file in another way and name its path"
    )]
    Socks {
        variable: &'static str,
        proxy: String,
    },
}

/// The proxy for a URL, if `variable` has one.
pub(super) fn proxy_for(
    url: &Url,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Through>, BadProxy> {
    // `HTTP_PROXY` is what a CGI program gets of a request's header `Proxy:`.
    let names: &[&'static str] = match url.scheme() {
        Scheme::Https => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        Scheme::Http => &["http_proxy", "all_proxy", "ALL_PROXY"],
    };
    let mut found = names
        .iter()
        .filter_map(|name| Some((*name, variable(name)?)));
    let Some((name, value)) = found.next() else {
        return Ok(None);
    };
    let direct = variable("no_proxy").or_else(|| variable("NO_PROXY"));
    if value.is_empty() || direct.is_some_and(|list| is_direct(url.host(), &list)) {
        return Ok(None);
    }
    let is_socks = value
        .split_once("://")
        .is_some_and(|(scheme, _)| scheme.to_ascii_lowercase().starts_with("socks"));
    let proxy = match Proxy::new(&value) {
        Ok(proxy) if !is_socks => proxy,
        Ok(proxy) => {
            return Err(BadProxy::Socks {
                variable: name,
                proxy: shown(&proxy),
            });
        }
        Err(_) => return Err(BadProxy::NoUrl(name)),
    };
    Ok(Some(Through {
        proxy,
        variable: name,
    }))
}

/// A proxy without its user and password.
pub(super) fn shown(proxy: &Proxy) -> String {
    let scheme = match proxy.protocol() {
        ProxyProtocol::Https => "https",
        ProxyProtocol::Socks4 => "socks4",
        ProxyProtocol::Socks4A => "socks4a",
        ProxyProtocol::Socks5 => "socks5",
        ProxyProtocol::Socks5h => "socks5h",
        _ => "http",
    };
    format!("{scheme}://{}:{}", proxy.host(), proxy.port())
}

/// Whether a host is in a list of those that are reached without a proxy: `*`, names with all that is below
/// them, addresses and networks.
fn is_direct(host: &str, list: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let address: Option<std::net::IpAddr> = host.parse().ok();
    let mut entries = list
        .split([',', ' ', '\t'])
        .filter(|entry| !entry.is_empty());
    entries.any(|entry| {
        let entry = entry.trim_matches('.').to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        if let Some(address) = address {
            let entry = entry.trim_matches(['[', ']']);
            let is_within = |net: IpNet| net.contains(&address);
            return entry.parse() == Ok(address) || entry.parse().is_ok_and(is_within);
        }
        let above = host.strip_suffix(entry.as_str());
        !entry.is_empty() && above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(url: &str, environment: &[(&str, &str)]) -> Result<Option<String>, BadProxy> {
        let variable = |name: &str| {
            let found = environment.iter().find(|(one, _)| *one == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let through = proxy_for(&url.parse().unwrap(), variable)?;
        Ok(through.map(|through| format!("{} {}", through.variable, shown(&through.proxy))))
    }

    #[test]
    fn the_environment_is_taken_as_curl_takes_it() {
        let (https, http) = ("https://a.example/b", "http://a.example/b");
        let all = [
            ("http_proxy", "http://h:1"),
            ("HTTP_PROXY", "http://cgi:2"),
            ("https_proxy", "s:3"),
            ("HTTPS_PROXY", "http://upper:4"),
            ("all_proxy", "http://all:5"),
        ];
        for (url, from, expected) in [
            (https, &all[..], "https_proxy http://s:3"),
            (http, &all, "http_proxy http://h:1"),
            (http, &all[1..], "all_proxy http://all:5"),
            (http, &[("HTTP_PROXY", "http://cgi:2")], ""),
            (https, &all[3..], "HTTPS_PROXY http://upper:4"),
            (
                https,
                &[("ALL_PROXY", "https://proxy")],
                "ALL_PROXY https://proxy:443",
            ),
            // Set to nothing is said of this kind, and so not asked of the others.
            (https, &[("https_proxy", ""), ("all_proxy", "p")], ""),
            (https, &[], ""),
            (
                https,
                &[("https_proxy", "http://me:secret@p:8080")],
                "https_proxy http://p:8080",
            ),
        ] {
            let is = through(url, from).unwrap().unwrap_or_default();
            assert_eq!(is, expected, "{url} {from:?}");
        }
    }

    #[test]
    fn hosts_of_no_proxy_are_reached_directly() {
        for (host, list, direct) in [
            ("a.example", "a.example", true),
            ("a.example", "b.example, EXAMPLE.", true),
            ("a.example", ".example", true),
            ("an.example", "n.example", false),
            ("a.example", "", false),
            ("a.example", "*", true),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("10.1.2.3", "10.1.2.30 10.1.2.3", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("[fd00::1]:8080", "fd00::/8", true),
            ("a.example:8080", "a.example", true),
        ] {
            let from = [("all_proxy", "http://p:1"), ("no_proxy", list)];
            let through = through(&format!("https://{host}/b"), &from).unwrap();
            assert_eq!(through.is_none(), direct, "{host} {list:?}");
        }
        let both = [
            ("all_proxy", "http://p:1"),
            ("no_proxy", "b.example"),
            ("NO_PROXY", "*"),
        ];
        assert!(through("https://a.example/", &both).unwrap().is_some());
    }

    #[test]
    fn proxies_that_cannot_be_used_are_said_without_their_password() {
        let from = [("all_proxy", "socks5h://me:secret@p:1080")];
        let said = through("https://a.example/b", &from)
            .unwrap_err()
            .to_string();
        assert!(said.contains("SOCKS proxy (socks5h://p:1080)"), "{said}");
        assert!(!said.contains("secret"), "{said}");
        for value in ["ftp://me:secret@p", "http://", "http://me:secret@ p"] {
            let from = [("https_proxy", value)];
            assert_eq!(
                through("https://a.example/b", &from),
                Err(BadProxy::NoUrl("https_proxy"))
            );
        }
    }
}
