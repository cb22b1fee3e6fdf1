//! Values that are written as text: sizes, durations, addresses, networks.

use crate::proto::allowance::Rate;
use bytesize::ByteSize;
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

/// A number of bytes: "256MiB" (1024-based), "256MB" (1000-based), or an integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// A duration: "30s", "1h 30m".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Period(pub(super) Duration);

/// A socket address: `127.0.0.1:8080`, `[::1]:8080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address(pub(super) SocketAddr);

/// A network or one address: "10.0.0.0/8", "192.0.2.7".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(pub(super) IpNet);

/// How often: "20/s", "100/m", "5/h".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frequency(pub(super) Rate);

impl Default for Frequency {
    /// A placeholder, as all defaults of raw shapes.
    fn default() -> Self {
        Self(Rate { units: NonZeroU32::MIN, per: Duration::from_secs(1) })
    }
}

/// Text to value, with the words for what was expected.
trait Written: Sized {
    const EXPECTED: &'static str;
    /// # Errors
    /// What is wrong, if there is more to say than what was expected.
    fn from_text(text: &str) -> Result<Self, String>;
    /// # Errors
    /// What to write instead of a bare integer; `None` if integers are out of the question.
    fn from_integer(_: u64) -> Result<Self, Option<&'static str>> {
        Err(None)
    }
    fn schema() -> Schema;
}

impl Written for Size {
    const EXPECTED: &'static str = "a size such as \"256MiB\" or a number of bytes";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse::<ByteSize>().map(|size| Self(size.as_u64())).map_err(|_unclear| String::new())
    }

    fn from_integer(value: u64) -> Result<Self, Option<&'static str>> {
        Ok(Self(value))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "description": "A size: \"256MiB\" (1 MiB = 1048576 bytes; 1 MB = 1000000), or an integer number of bytes.",
            "pattern": "^[0-9.]+ *([kKMGTPE]i?)?[bB]?$",
            "minimum": 0
        })
    }
}

impl Written for Period {
    const EXPECTED: &'static str = "a duration such as \"30s\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.parse::<u64>().is_ok() {
            return Err(format!("a duration needs a unit: \"{text}s\"?"));
        }
        humantime::parse_duration(text).map(Self).map_err(|_unclear| String::new())
    }

    fn from_integer(_: u64) -> Result<Self, Option<&'static str>> {
        Err(Some("a duration needs a unit, as in \"30s\""))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration: \"500ms\", \"30s\", \"1h 30m\", \"7days\".",
            "pattern": "^ *([0-9]+ *[a-zA-Z]+ *)+$"
        })
    }
}

impl Written for Address {
    const EXPECTED: &'static str = "an address such as \"127.0.0.1:8080\"";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_unclear| {
            let port = text.strip_prefix(':').unwrap_or(text);
            match port.parse::<u16>() {
                Ok(port) => format!("an address has a host: \"0.0.0.0:{port}\" for all, \"127.0.0.1:{port}\" for this machine?"),
                Err(_) => String::new(),
            }
        })
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "description": "An IP address and port: \"127.0.0.1:8080\", \"[::]:443\"."
        })
    }
}

impl Written for Network {
    const EXPECTED: &'static str = "a network such as \"10.0.0.0/8\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_unclear| String::new())
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "description": "A network or an address: \"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.7\"."
        })
    }
}

impl Written for Frequency {
    const EXPECTED: &'static str = "a rate such as \"20/s\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let (units, per) = text.split_once('/').ok_or_else(String::new)?;
        let per = match per.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(String::new()),
        };
        let units = units.trim().parse().map_err(|_unclear| String::new())?;
        Ok(Self(Rate { units, per: Duration::from_secs(per) }))
    }

    fn from_integer(_: u64) -> Result<Self, Option<&'static str>> {
        Err(Some("a rate needs a period, as in \"20/s\""))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "description": "So many per second, minute or hour: \"20/s\", \"100/m\", \"5/h\".",
            "pattern": "^ *[1-9][0-9]* */ *[smh] *$"
        })
    }
}

struct WrittenVisitor<T>(std::marker::PhantomData<T>);

impl<T: Written> Visitor<'_> for WrittenVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(|what| {
            if what.is_empty() {
                E::custom(format!("expected {}, found \"{text}\"", T::EXPECTED))
            } else {
                E::custom(what)
            }
        })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        let wrong_type = || E::invalid_type(serde::de::Unexpected::Signed(value), &self);
        let value = u64::try_from(value).map_err(|_negative| wrong_type())?;
        T::from_integer(value).map_err(|hint| hint.map_or_else(wrong_type, E::custom))
    }
}

macro_rules! written {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(WrittenVisitor(std::marker::PhantomData))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                <Self as Written>::schema()
            }
        }
    )*};
}

written!(Size, Period, Address, Network, Frequency);
