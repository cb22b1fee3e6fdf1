//! From what somebody wants purged to selectors: a URL is read as the router reads a client's GET, so that the key it
//! selects is the one under which the answer was stored.

use super::{Head, Refusal, Router, path};
use crate::proto::authority::Authority;
use crate::proto::key::Scheme;
use crate::proto::purge::{BadTag, SELECTORS_MAX, Selector, Shown, Wanted, check_tag};
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use std::net::{IpAddr, Ipv4Addr};

/// A selector that selects nothing here. Nothing of the call it is in is purged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSelector {
    /// The call names nothing.
    #[error("nothing is named: give URLs, prefixes, tags, hosts, sites or all")]
    Nothing,
    /// More than [`SELECTORS_MAX`].
    #[error("{0} selectors: at most {SELECTORS_MAX} in one call")]
    TooMany(usize),
    /// One of them.
    #[error("{kind} {index} ({}): {why}", Shown(text))]
    One {
        /// Its kind.
        kind: &'static str,
        /// Its place among those of its kind, from 0.
        index: usize,
        /// As written.
        text: String,
        /// What is wrong with it.
        why: Unselectable,
    },
}

/// What is wrong with a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unselectable {
    /// It has no character.
    #[error("empty")]
    Empty,
    /// Neither `https://host/path` nor `host/path`.
    #[error("no URL of the form https://host/path")]
    NotUrl,
    /// Another scheme than http and https.
    #[error("the scheme must be http or https")]
    Scheme,
    /// No host name, or one that cannot be.
    #[error("malformed host or port")]
    BadHost,
    /// No site has this host.
    #[error("no site serves {0}")]
    UnknownHost(String),
    /// No site has this name.
    #[error("no site is named {}", Shown(.0))]
    UnknownSite(String),
    /// A client's request for it would be refused.
    #[error("a request for it would be refused: {0}")]
    Refused(Refusal),
    /// It is no tag.
    #[error(transparent)]
    Tag(#[from] BadTag),
}

/// A URL in its parts.
struct Written<'a> {
    scheme: Scheme,
    authority: &'a str,
    /// Path and query.
    target: &'a str,
}

impl Router {
    /// The selectors for what is wanted.
    ///
    /// # Errors
    /// The first that cannot be.
    pub fn selectors(&self, wanted: &[Wanted]) -> Result<Vec<Selector>, BadSelector> {
        if wanted.is_empty() {
            return Err(BadSelector::Nothing);
        }
        if wanted.len() > SELECTORS_MAX {
            return Err(BadSelector::TooMany(wanted.len()));
        }
        let selectors = wanted.iter().enumerate().map(|(at, one)| {
            self.selector(one).map_err(|why| {
                let kind = one.kind();
                let index = wanted[..at].iter().filter(|before| before.kind() == kind).count();
                BadSelector::One { kind: kind.as_str(), index, text: one.text().to_owned(), why }
            })
        });
        selectors.collect()
    }

    /// The selector for one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn selector(&self, wanted: &Wanted) -> Result<Selector, Unselectable> {
        match wanted {
            Wanted::Url(url) => self.url(url),
            Wanted::Prefix(url) => self.prefix(url),
            Wanted::Tag { site, tag } => {
                check_tag(tag)?;
                let site = site.as_deref().map(|site| self.named(site)).transpose()?;
                Ok(Selector::Tag { site, tag: tag.clone() })
            }
            Wanted::Host(host) => {
                let written = parts(host)?;
                if !matches!(written.target, "" | "/") {
                    return Err(Unselectable::BadHost);
                }
                let (site, host) = self.host(&written)?;
                Ok(Selector::Host { site, host })
            }
            Wanted::Site(site) => Ok(Selector::Site { site: self.named(site)? }),
            Wanted::All => Ok(Selector::All),
        }
    }

    /// Resolved as a client's GET would be, also by the query filter of the rule for its path.
    fn url(&self, url: &str) -> Result<Selector, Unselectable> {
        let Written { scheme, authority, target } = parts(url)?;
        let uri: Uri =
            with_path(target).parse().map_err(|_invalid| Unselectable::Refused(Refusal::BadTarget))?;
        let host = HeaderValue::from_str(authority).map_err(|_invalid| Unselectable::BadHost)?;
        let headers = HeaderMap::from_iter([(HOST, host)]);
        let head = Head {
            method: &Method::GET,
            uri: &uri,
            headers: &headers,
            scheme,
            version: Version::HTTP_11,
            tls_name: None,
            from: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let routed = self.resolve(&head).map_err(|refusal| match refusal {
            Refusal::UnknownHost => Unselectable::UnknownHost(authority.to_owned()),
            Refusal::BadHost | Refusal::MissingHost => Unselectable::BadHost,
            refusal => Unselectable::Refused(refusal),
        })?;
        let host = routed.host_str().to_owned();
        Ok(Selector::Url { site: routed.site.name.clone(), host, path: routed.target.to_string() })
    }

    /// As a URL, but the query filter has no part in it: what is behind a prefix is not known.
    fn prefix(&self, url: &str) -> Result<Selector, Unselectable> {
        let written = parts(url.strip_suffix('*').unwrap_or(url))?;
        let (site, host) = self.host(&written)?;
        let path = with_path(written.target);
        if path.len() > self.uri_bytes {
            return Err(Unselectable::Refused(Refusal::UriTooLong));
        }
        path::check(&path).map_err(Unselectable::Refused)?;
        Ok(Selector::Prefix { site, host, path })
    }

    /// The site that answers for the host, and the host as in keys.
    fn host(&self, written: &Written<'_>) -> Result<(String, String), Unselectable> {
        let host = Authority::parse(written.authority, written.scheme);
        let host = host.map_err(|_malformed| Unselectable::BadHost)?;
        let unknown = || Unselectable::UnknownHost(host.as_str().to_owned());
        let index = self.site_of(host.name()).ok_or_else(unknown)?;
        Ok((self.sites[index].site.name.clone(), host.as_str().to_owned()))
    }

    fn named(&self, name: &str) -> Result<String, Unselectable> {
        if name.is_empty() {
            return Err(Unselectable::Empty);
        }
        let known = self.sites.iter().any(|compiled| compiled.site.name == name);
        known.then(|| name.to_owned()).ok_or_else(|| Unselectable::UnknownSite(name.to_owned()))
    }
}

/// Splits `https://host/path?query` or `host/path?query`. A fragment is no part of a request.
fn parts(url: &str) -> Result<Written<'_>, Unselectable> {
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    if url.is_empty() {
        return Err(Unselectable::Empty);
    }
    let before = url.find(['/', '?']).unwrap_or(url.len());
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if scheme.len() <= before => (Some(scheme), rest),
        _ => (None, url),
    };
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let scheme = match scheme {
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => Scheme::Http,
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => Scheme::Https,
        Some(_) => return Err(Unselectable::Scheme),
        None => scheme_of(authority),
    };
    if authority.is_empty() {
        return Err(Unselectable::NotUrl);
    }
    Ok(Written { scheme, authority, target })
}

/// Whose default port is left out, where no scheme is written.
fn scheme_of(authority: &str) -> Scheme {
    if authority.ends_with(":80") && !authority.ends_with("::80") { Scheme::Http } else { Scheme::Https }
}

/// RFC 9110 §4.2.3: an empty path is "/".
fn with_path(target: &str) -> String {
    if target.starts_with('/') { target.to_owned() } else { format!("/{target}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};
    use crate::proto::key;
    use crate::proto::purge::{Mode, Target};
    use proptest::prelude::*;
    use std::io::Write;
    use std::sync::LazyLock;

    const SITES: &str = "\
[[site]]
name = \"shop\"
hosts = [\"shop.example\", \"*.shop.example\", \"[::1]\"]
origins = [\"http://127.0.0.1:1\"]
[[site.rules]]
path = \"/search\"
query = { only = [\"q\", \"page\"] }
[[site.rules]]
path = \"/static/*\"
query = { except = [\"utm_source\"] }
[[site]]
hosts = [\"blog.example\"]
origins = [\"http://127.0.0.1:1\"]
";

    fn sites() -> &'static Router {
        static ROUTER: LazyLock<Router> = LazyLock::new(|| {
            let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a temporary file");
            file.write_all(SITES.as_bytes()).expect("written");
            let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
            Router::new(&config::load(&sources).unwrap_or_else(|errors| panic!("{errors}")).config)
        });
        &ROUTER
    }

    fn url(url: &str) -> Result<Selector, Unselectable> {
        sites().selector(&Wanted::Url(url.to_owned()))
    }

    fn prefix(url: &str) -> Result<Selector, Unselectable> {
        sites().selector(&Wanted::Prefix(url.to_owned()))
    }

    fn of_shop(host: &str, path: &str) -> Result<Selector, Unselectable> {
        Ok(Selector::Url { site: "shop".to_owned(), host: host.to_owned(), path: path.to_owned() })
    }

    #[test]
    fn a_url_is_what_a_get_for_it_would_be_stored_under() {
        for (written, host, path) in [
            ("https://shop.example/a?b=c", "shop.example", "/a?b=c"),
            ("shop.example/a", "shop.example", "/a"),
            ("HTTP://SHOP.example:80/A", "shop.example", "/A"),
            ("shop.example:80/a", "shop.example", "/a"),
            ("shop.example:443/a", "shop.example", "/a"),
            ("http://shop.example:443/a", "shop.example:443", "/a"),
            ("http://shop.example:8080/a", "shop.example:8080", "/a"),
            ("https://shop.example", "shop.example", "/"),
            ("https://shop.example?x=1", "shop.example", "/?x=1"),
            ("https://shop.example./a#part", "shop.example", "/a"),
            ("https://shop.example/search?utm=1&q=x&y=2", "shop.example", "/search?q=x"),
            ("https://shop.example/static/a?utm_source=n", "shop.example", "/static/a"),
            ("https://[0:0::1]/a", "[::1]", "/a"),
            ("shop.example/go?to=http://x.example/", "shop.example", "/go?to=http://x.example/"),
        ] {
            assert_eq!(url(written), of_shop(host, path), "{written}");
        }
    }

    #[test]
    fn a_prefix_is_not_filtered_and_may_end_in_a_star() {
        let of = |path: &str| {
            Ok(Selector::Prefix {
                site: "shop".to_owned(),
                host: "shop.example".to_owned(),
                path: path.to_owned(),
            })
        };
        for (written, path) in [
            ("https://shop.example/blog/", "/blog/"),
            ("shop.example/blog/*", "/blog/"),
            ("shop.example", "/"),
            ("shop.example/search?utm", "/search?utm"),
        ] {
            assert_eq!(prefix(written), of(path), "{written}");
        }
        assert_eq!(prefix("nobody.example/*"), Err(Unselectable::UnknownHost("nobody.example".to_owned())));
        assert_eq!(prefix("shop.example/a b"), Err(Unselectable::Refused(Refusal::BadTarget)));
        assert_eq!(prefix("*"), Err(Unselectable::Empty));
    }

    #[test]
    fn hosts_sites_and_tags_are_those_that_can_be() {
        let selector = |wanted| sites().selector(&wanted);
        let host = |text: &str| selector(Wanted::Host(text.to_owned()));
        let found =
            |site: &str, host: &str| Ok(Selector::Host { site: site.to_owned(), host: host.to_owned() });
        assert_eq!(host("WWW.shop.example"), found("shop", "www.shop.example"));
        assert_eq!(host("blog.example:443"), found("blog.example", "blog.example"));
        assert_eq!(host("*.shop.example"), Err(Unselectable::BadHost));
        assert_eq!(host("http://shop.example:443/"), found("shop", "shop.example:443"));
        assert_eq!(host("shop.example/a"), Err(Unselectable::BadHost));
        assert_eq!(host(""), Err(Unselectable::Empty));
        let site = |text: &str| selector(Wanted::Site(text.to_owned()));
        assert_eq!(site("shop"), Ok(Selector::Site { site: "shop".to_owned() }));
        assert_eq!(site("shop.example"), Err(Unselectable::UnknownSite("shop.example".to_owned())));
        let tag = |site: Option<&str>, tag: &str| {
            selector(Wanted::Tag { site: site.map(str::to_owned), tag: tag.to_owned() })
        };
        assert_eq!(tag(None, "a"), Ok(Selector::Tag { site: None, tag: "a".to_owned() }));
        assert_eq!(
            tag(Some("blog.example"), "a").map(|found| found.to_string()),
            Ok("tag a of blog.example".to_owned())
        );
        assert_eq!(tag(Some("x"), "a"), Err(Unselectable::UnknownSite("x".to_owned())));
        assert_eq!(tag(None, "a b"), Err(Unselectable::Tag(BadTag::Separator)));
    }

    #[test]
    fn a_bad_selector_is_named_with_its_place_and_reason() {
        let urls = |urls: &[&str]| {
            let wanted: Vec<_> = urls.iter().map(|url| Wanted::Url((*url).to_owned())).collect();
            sites().selectors(&wanted).map(|found| found.len()).map_err(|error| error.to_string())
        };
        assert_eq!(urls(&["shop.example/a", "blog.example/b"]), Ok(2));
        for (bad, why) in [
            ("nobody.example/", "no site serves nobody.example"),
            ("ftp://shop.example/", "the scheme must be http or https"),
            ("/a", "no URL of the form https://host/path"),
            ("", "empty"),
            ("shop example/a", "malformed host or port"),
            ("user@shop.example/a", "malformed host or port"),
            ("shop.example/%zz", "a request for it would be refused: malformed request target"),
        ] {
            assert_eq!(urls(&["shop.example/", bad]), Err(format!("url 1 ({bad}): {why}")));
        }
        let long = format!("shop.example/{}", "a".repeat(10_000));
        assert!(urls(&[&long]).is_err_and(|error| error.ends_with("refused: request target too long")));
        assert!(urls(&[]).is_err_and(|error| error.starts_with("nothing is named")));
        assert!(
            urls(&["shop.example/"; SELECTORS_MAX + 1])
                .is_err_and(|error| error.starts_with("1001 selectors"))
        );
    }

    proptest! {
        /// The promise of this file: whatever URL is asked for, its purge selects the key of the answer.
        #[test]
        fn the_target_of_a_url_is_that_of_the_key_of_a_get_for_it(
            https: bool,
            host in "(shop|SHOP|a\\.b\\.shop|www\\.Shop|blog)\\.example\\.?(:(80|443|8080|0443))?",
            path in "(/|/search|/static/[a-c]{0,2}|/%2[fF]|/\\.\\./x|//|/[a-zA-Z;~*]{0,6})",
            query in "(\\?((q|page|utm_source|x)=?[a-z%/:]{0,3}&?){0,4})?",
        ) {
            let scheme = if https { Scheme::Https } else { Scheme::Http };
            let uri: Uri = format!("{path}{query}").parse().expect("a target");
            let headers = HeaderMap::from_iter([(HOST, host.parse::<HeaderValue>().expect("a value"))]);
            let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let (method, version) = (&Method::GET, Version::HTTP_11);
            let head = Head { method, uri: &uri, headers: &headers, scheme, version, tls_name: None, from };
            let selected = url(&format!("{}://{host}{path}{query}", scheme.as_str()));
            match sites().resolve(&head) {
                Ok(routed) => {
                    let key = key::decode(routed.key.as_bytes()).expect("a key");
                    let site = crate::proto::purge::SiteId::of(key.site);
                    let target = Target::url(Mode::Hard, site, key.host, key.path);
                    prop_assert_eq!(selected.expect("routed").target(Mode::Hard), target);
                }
                Err(refusal) => prop_assert!(selected.is_err(), "{refusal}"),
            }
        }

        #[test]
        fn no_text_makes_selecting_panic(text: String, near in "(https?://)?[a-z.:@/?#*\\[\\]%]{0,16}") {
            for text in [text, near] {
                let wanted = [Wanted::Url(text.clone()), Wanted::Prefix(text.clone()), Wanted::Host(text)];
                let _ = wanted.map(|wanted| sites().selector(&wanted));
            }
        }
    }
}
