//! A small website, made at start and the same each time: pages that link to each other, a style
//! sheet, a script, pictures, and a file of a video's size.

use super::body::Payload;
use super::condition::Validators;
use super::picture;
use super::respond::Resource;
use crate::workload::Content;
use crate::workload::random::{Random, hash};
use bytes::Bytes;
use http::HeaderValue;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

const ARTICLES: u64 = 12;
const PHOTOS: u64 = 4;
const VIDEO_PATH: &str = "/video.mp4";
const VIDEO_BYTES: u64 = 64 << 20;

/// When the site was last changed (2025-06-01T00:00:00Z).
const MODIFIED_SECS: u64 = 1_748_736_000;

const PAGES: &str = "public, max-age=60, stale-while-revalidate=30";
const ASSETS: &str = "public, max-age=31536000, immutable";
const MEDIA: &str = "public, max-age=86400";
const NEWS: &str = "public, max-age=2, stale-while-revalidate=10, stale-if-error=60";
const PERSONAL: &str = "private, no-store";

const HTML: &str = "text/html; charset=utf-8";

/// All pages by path.
pub(super) struct Site {
    pages: HashMap<String, Resource>,
}

impl Site {
    pub(super) fn build() -> Self {
        let mut site = Self { pages: HashMap::new() };
        site.add_pages();
        site.add_assets();
        site
    }

    pub(super) fn page(&self, path: &str) -> Option<&Resource> {
        self.pages.get(path)
    }

    fn add_pages(&mut self) {
        let link = |n| format!("<li><a href=\"/articles/{n}.html\">{}</a></li>\n", title(n));
        let links: String = (1..=ARTICLES).map(link).collect();
        let photos: String =
            (1..=PHOTOS).map(|n| format!("<img src=\"/img/photo-{n}.png\" alt=\"Photo {n}\">\n")).collect();
        let home = format!("<h1>The Shoal Gazette</h1>\n<ul>\n{links}</ul>\n{photos}");
        self.add("/", HTML, PAGES, page("The Shoal Gazette", &home));
        self.add("/about.html", HTML, PAGES, page("About", &format!("<h1>About</h1>\n{}", prose(0, 4))));
        let news = "<h1>News</h1>\n<p>This page is fresh for two seconds.</p>";
        self.add("/news.html", HTML, NEWS, page("News", news));
        let account = "<h1>Your account</h1>\n<p>This page is for one visitor and never stored.</p>";
        self.add("/account.html", HTML, PERSONAL, page("Account", account));
        for n in 1..=ARTICLES {
            let text = prose(n, 6 + n);
            let body = format!("<h1>{}</h1>\n<img src=\"/img/{n}.svg\" alt=\"\">\n{text}", title(n));
            self.add(&format!("/articles/{n}.html"), HTML, PAGES, page(title(n), &body));
        }
    }

    fn add_assets(&mut self) {
        self.add("/css/site.css", "text/css; charset=utf-8", ASSETS, STYLE);
        self.add("/js/site.js", "text/javascript; charset=utf-8", ASSETS, SCRIPT);
        self.add("/robots.txt", "text/plain; charset=utf-8", PAGES, "User-agent: *\nAllow: /\n");
        self.add("/favicon.svg", "image/svg+xml", ASSETS, picture::svg(0));
        for n in 1..=ARTICLES {
            self.add(&format!("/img/{n}.svg"), "image/svg+xml", MEDIA, picture::svg(n));
        }
        for n in 1..=PHOTOS {
            let size = 96 * n as u32;
            self.add(&format!("/img/photo-{n}.png"), "image/png", MEDIA, picture::png(n, size, size * 5 / 8));
        }
        let video = Content::of(VIDEO_PATH);
        let payload = Payload::Made(video, VIDEO_BYTES);
        self.insert(VIDEO_PATH, "video/mp4", MEDIA, (payload, video.seed()));
    }

    fn add(&mut self, path: &str, content_type: &'static str, cache: &'static str, body: impl Into<Bytes>) {
        let body = body.into();
        let seed = hash(&body);
        self.insert(path, content_type, cache, (Payload::Fixed(body), seed));
    }

    fn insert(&mut self, path: &str, content_type: &'static str, cache: &'static str, body: (Payload, u64)) {
        let (payload, seed) = body;
        let resource = Resource {
            payload,
            content_type: HeaderValue::from_static(content_type),
            validators: Validators {
                etag: format!("\"{seed:016x}\""),
                last_modified: SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED_SECS),
            },
            cache_control: HeaderValue::from_static(cache),
            vary: None,
        };
        self.pages.insert(path.to_owned(), resource);
    }
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"/favicon.svg\">\n<link rel=\"stylesheet\" href=\"/css/site.css\">\n\
         <script src=\"/js/site.js\" defer></script>\n</head>\n<body>\n<nav><a href=\"/\">Home</a> \
         <a href=\"/news.html\">News</a> <a href=\"/about.html\">About</a> <a href=\"/account.html\">Account</a> \
         <a href=\"{VIDEO_PATH}\">Video</a></nav>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
}

const fn title(article: u64) -> &'static str {
    const TITLES: [&str; ARTICLES as usize] = [
        "Tides and timetables",
        "How herring turn together",
        "The ferry that waits",
        "Nets, mended",
        "A harbour before dawn",
        "What the gulls know",
        "Letters from the lighthouse",
        "Salt, rope and patience",
        "The long way round the cape",
        "Charts of an older coast",
        "Weather for the week",
        "Supper at the pier",
    ];
    TITLES[((article + ARTICLES - 1) % ARTICLES) as usize]
}

/// Paragraphs of filler, decided by `seed`.
fn prose(seed: u64, paragraphs: u64) -> String {
    const WORDS: [&str; 24] = [
        "the", "water", "keeps", "a", "slow", "hour", "and", "each", "boat", "leans", "toward", "shore",
        "while", "nets", "dry", "over", "old", "stone", "walls", "where", "children", "count", "gulls",
        "again",
    ];
    let mut random = Random::new(seed);
    let mut sentence = || {
        let words: Vec<&str> = (0..6 + random.below(9)).map(|_| WORDS[random.below(WORDS.len())]).collect();
        let mut text = words.join(" ") + ". ";
        text[..1].make_ascii_uppercase();
        text
    };
    (0..paragraphs).map(|_| format!("<p>{}</p>\n", (0..8).map(|_| sentence()).collect::<String>())).collect()
}

const STYLE: &str = "\
body { margin: 0; font: 1.05rem/1.6 Georgia, serif; color: #1b2a33; background: #f6f8f9; }
nav { padding: 1rem 2rem; background: #0f3d4c; }
nav a { color: #fff; margin-right: 1.5rem; text-decoration: none; }
main { max-width: 42rem; margin: 2rem auto; padding: 0 1rem; }
img { max-width: 100%; border-radius: 6px; }
h1 { line-height: 1.2; }
";

const SCRIPT: &str = "\
document.querySelectorAll('nav a').forEach((link) => {
  if (link.pathname === location.pathname) link.setAttribute('aria-current', 'page');
});
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_leads_to_a_page() {
        let site = Site::build();
        let mut links = 0;
        for (path, resource) in &site.pages {
            let Payload::Fixed(body) = &resource.payload else { continue };
            let Ok(text) = std::str::from_utf8(body) else { continue };
            for attribute in ["href=\"", "src=\""] {
                for part in text.split(attribute).skip(1) {
                    let (target, _) = part.split_once('"').unwrap();
                    assert!(site.page(target).is_some(), "{path} links to {target}");
                    links += 1;
                }
            }
        }
        assert!(links > 100);
    }
}
