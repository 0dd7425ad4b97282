//! Values that several keys have.

use schemars::JsonSchema;

/// A name that the file gives to a VM, a network or an image: 1 to 63 of `a-z`, `0-9` and `-`, neither first
/// nor last a `-`.
///
/// A VM's name is its id: it is a part of unit, user and file names, and the guest's host name
/// unless it is told another.
#[derive(Debug, JsonSchema)]
#[schemars(title = "name")]
pub struct Name(
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"), length(max = 63))] pub String,
);

/// The name of a disk, unique in its VM: 1 to 20 of `a-z`, `0-9` and `-`, neither first nor last a
/// `-`.
#[derive(Debug, JsonSchema)]
#[schemars(title = "disk name")]
pub struct DiskName(
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"), length(max = 20))] pub String,
);

/// A string with an amount of memory or disk: a whole number and `K`, `M`, `G` or `T`, which are
/// powers of two: `"512M"`, `"2G"`. Without a letter it is bytes.
#[derive(Debug, JsonSchema)]
#[schemars(title = "size")]
pub struct Size(#[schemars(regex(pattern = r"^[0-9]+[KMGT]?$"))] pub String);

/// A string with a span of time and its unit, as systemd writes them: `"90s"`, `"2min"`,
/// `"1h 30min"`. From 1 ms to 365 days.
#[derive(Debug, JsonSchema)]
#[schemars(title = "time span")]
pub struct TimeSpan(#[schemars(regex(pattern = r"^[0-9][^,:]*[A-Za-z]$"))] pub String);

/// An absolute path: no `.` or `..`, no doubled or trailing `/`.
///
/// It cannot hold white space, `:`, quotes, backslashes or control characters: systemd 257 loses them
/// when it reads a transient unit again.
#[derive(Debug, JsonSchema)]
#[schemars(title = "path")]
pub struct Path(
    #[schemars(regex(pattern = r#"^(/[^/\s:"'\\]+)+$"#), length(max = 4095))] pub String,
);

/// A path as above, or an `https://` or `http://` URL: at most 2000 characters, all that a URL does not
/// allow percent-encoded, without a password.
///
/// What is fetched has a checksum beside it, so `http://` is as good as `https://`.
#[derive(Debug, JsonSchema)]
#[schemars(title = "path or URL")]
pub struct PathOrUrl(
    #[schemars(regex(pattern = r#"^((/[^/\s:"'\\]+)+|https?://[^\s"<>\\^`{|}]+)$"#))]
    pub String,
);

/// The SHA-256 checksum of a file, as 64 hexadecimal digits.
#[derive(Debug, JsonSchema)]
#[schemars(title = "SHA-256 checksum")]
pub struct Sha256(#[schemars(regex(pattern = r"^[0-9A-Fa-f]{64}$"))] pub String);

/// An IPv4 or IPv6 address with the length of its prefix: `"192.168.100.1/24"`,
/// `"fd00:100::1/64"`.
#[derive(Debug, JsonSchema)]
#[schemars(title = "address with prefix length")]
pub struct Cidr(#[schemars(regex(pattern = r"^[0-9A-Fa-f.:]+/[0-9]{1,3}$"))] pub String);

/// An IPv4 or IPv6 address: `"192.168.100.1"`, `"fd00:100::1"`.
#[derive(Debug, JsonSchema)]
#[schemars(title = "address")]
pub struct Address(#[schemars(regex(pattern = r"^[0-9A-Fa-f.:]+$"))] pub String);

/// An address, with or without the length of its prefix.
#[derive(Debug, JsonSchema)]
#[schemars(title = "address with or without prefix length")]
pub struct MaybeCidr(#[schemars(regex(pattern = r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"))] pub String);

/// One, or several in an array.
#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

/// `true` or `false`, or one of the two families.
#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum Families {
    All(bool),
    One(Family),
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", inline)]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// A unicast Ethernet address: `"52:54:00:12:34:56"`.
#[derive(Debug, JsonSchema)]
#[schemars(title = "MAC")]
pub struct Mac(
    #[schemars(regex(pattern = r"^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$"))] pub String,
);

/// The name of a network link of the host: at most 15 letters, digits, `-`, `_` and `.`.
#[derive(Debug, JsonSchema)]
#[schemars(title = "link name")]
pub struct LinkName(#[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,15}$"))] pub String);
